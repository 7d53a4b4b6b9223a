"""`interlock mil compare` on a toy: every kind of reference, what is named, exit codes, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.toy_exports import toy_export

from interlock.contracts import checkpoint
from interlock.voice import SilentVoice
from pipeline.cli import main

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoint, exported and package: functions prefill_32 and decode."""
    from pipeline.driver import stage
    from pipeline.stages import convert

    folder = tmp_path_factory.mktemp("compare")
    exported = toy_export(folder, halt_head=True)
    stage.run(convert.STAGE, convert.Params(out=folder / "package", toy=True, source=exported, checkpoint=folder / "checkpoint"), SilentVoice())
    return folder


@pytest.fixture(scope="module")
def faulty(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[tuple[str, str]]]:
    """A copy with one flipped exponent bit, and who takes that weight."""
    from fakes.faults import plant

    path = tmp_path_factory.mktemp("faulty") / "model.mlpackage"
    carriers = plant(toy / "package" / "model.mlpackage", path, "exponent_bit", 1)
    assert carriers
    return path, carriers


def said(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = main(["mil", "compare", *map(str, words), "--json"], launch=False)
    return code, json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("reference", ["checkpoint", "exported", "package"])
def test_a_sound_package_equals_what_it_was_made_of(toy: Path, reference: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, document = said(capfd, toy / "package", toy / reference)
    assert code == 0 and not document["diverges"] and document["first"] is None and document["not_run"] == []
    assert document["calls"] == ["prefill_32 on 32 tokens", "decode at position 32", "decode at position 33"]
    outputs = {(item["function"], item["value"]): item for item in document["outputs"]}
    assert set(outputs) == {(name, output) for name in ("prefill_32", "decode") for output in ("logits", "hidden", "halt_logits")}
    # mode fp32 rounds nothing: what is left is the order of sums
    assert all(item["max_abs"] == 0 or item["psnr_db"] > 100 for item in outputs.values())


@pytest.mark.parametrize("reference", ["checkpoint", "package"])
def test_a_damaged_weight_is_named(toy: Path, faulty: tuple[Path, set[tuple[str, str]]], reference: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, document = said(capfd, faulty[0], toy / reference, "--top", 3)
    assert code == 1 and document["diverges"]
    assert (document["first"]["function"], document["first"]["value"]) in faulty[1]
    worst = [item["psnr_db"] for item in document["worst"]]
    assert len(worst) == 3 and worst == sorted(worst)


def test_lines_say_what_was_found_and_where_to_look(toy: Path, faulty: tuple[Path, set[tuple[str, str]]], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["mil", "compare", str(toy / "package"), str(toy / "checkpoint")], launch=False) == 0
    assert "  equal    no difference that rounding does not explain\n" in capfd.readouterr().out
    assert main(["mil", "compare", str(faulty[0]), str(toy / "checkpoint"), "--function", "decode"], launch=False) == 1
    text = capfd.readouterr().out
    assert "  DIVERGES " in text and "differs from" in text and "  next     " in text


def test_a_threshold_in_db_decides_between_packages(toy: Path, faulty: tuple[Path, set[tuple[str, str]]], capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, faulty[0], toy / "package", "--tolerance-db", -100)[1]["measured"] is None
    assert said(capfd, faulty[0], toy / "package", "--tolerance-db", 200)[1]["measured"] is not None


def test_given_inputs_are_used(toy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "given.npz", input_ids=np.array([[7]], np.int32), position_ids=np.array([3], np.int32))
    code, document = said(capfd, toy / "package", toy / "checkpoint", "--function", "decode", "--inputs", tmp_path / "given.npz")
    assert code == 0 and document["calls"][0] == "prefill_32 on 32 tokens"
    np.savez(tmp_path / "wrong.npz", input_ids=np.array([[7, 8]], np.int32))
    code, document = said(capfd, toy / "package", toy / "checkpoint", "--function", "decode", "--inputs", tmp_path / "wrong.npz")
    assert code == 2 and "input_ids" in document["problem"]
    np.savez(tmp_path / "unknown.npz", ids=np.array([[7]], np.int32))
    assert said(capfd, toy / "package", toy / "package", "--function", "decode", "--inputs", tmp_path / "unknown.npz")[0] == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "needs a reference"),
        (("checkpoint", "--function", "prefill_64"), "no function `prefill_64`"),
        (("package", "--function", "prefill_64"), "a function `prefill_64`"),
        (("checkpoint", "--mode", "fast"), "verifying executors"),
        (("checkpoint", "--tolerance-db", "40"), "threshold in dB"),
        (("checkpoint", "--inputs", "given.npz"), "of one function"),
    ],
)
def test_what_cannot_be_compared_is_a_mistake_of_use(toy: Path, words: tuple[str, ...], text: str, capfd: pytest.CaptureFixture[str]) -> None:
    where = [toy / words[0], *words[1:]] if words else []
    code, document = said(capfd, toy / "package", *where)
    assert code == 2 and text in document["problem"] and document["remedy"]


def test_a_prompt_needs_a_tokenizer(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, document = said(capfd, toy / "package", toy / "checkpoint", "--prompt", "some text")
    assert code == 3 and "tokenizer" in json.dumps(document)


def test_a_changed_checkpoint_is_refused(toy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(toy / "checkpoint", tmp_path / "checkpoint")
    with (tmp_path / "checkpoint" / checkpoint.WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    code, document = said(capfd, toy / "package", tmp_path / "checkpoint")
    assert code == 3 and "sha256" in json.dumps(document)
