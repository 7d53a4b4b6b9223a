"""Two directories: same, numerically same or differs, and the reason is the one that was planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.artifacts import ARCH, describe, write_checkpoint, write_evaluation
from fakes.chains import GOLDEN, write_chain
from fakes.shell import interlock
from numpy.typing import NDArray
from safetensors.numpy import save_file

from interlock.contracts import checkpoint, evaluation, io, package
from interlock.errors import ContractError, UsageError
from interlock.voice import SilentVoice
from pipeline.comparison.compare import compare
from pipeline.comparison.fields import compare_fields
from pipeline.comparison.records import Comparison, outcome_of, reasons_of
from pipeline.comparison.texts import compare_configs, compare_tokenizers
from runtime.config import RuntimeConfig

Weights = dict[str, NDArray[Any]]


def weights() -> Weights:
    """Values that fp16 holds."""
    random = np.random.default_rng(3)
    return {name: random.integers(-64, 64, shape).astype(np.float32) / 64 for name, shape in ARCH.weight_shapes(checkpoint.ModelArch()).items()}


def write(directory: Path, tensors: Weights, **changes: Any) -> Path:
    """A checkpoint of these tensors; changes: of its contract."""
    write_checkpoint(directory)
    save_file(tensors, directory / checkpoint.WEIGHTS)
    contract = describe(directory).model_copy(update=changes).sealed()
    (directory / checkpoint.FILE).write_bytes(io.pretty(contract))
    return directory


def found(a: Path, b: Path, bound: float = 0.0) -> Comparison:
    return compare(a, b, bound, SilentVoice())


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return write(tmp_path / "one", weights())


def test_a_directory_is_the_same_as_its_copy(one: Path, tmp_path: Path) -> None:
    result = found(one, write(tmp_path / "two", weights()))
    assert result.outcome == "same" and result.reasons == () and result.a.digest == result.b.digest


def test_who_made_it_does_not_decide(one: Path, tmp_path: Path) -> None:
    contract = describe(one)
    source = contract.source.model_copy(update={"sha256": "9" * 64})
    other = write(tmp_path / "two", weights(), source=source, created_by=contract.created_by.model_copy(update={"project_version": "9"}))
    result = found(one, other)
    assert result.outcome == "same" and {change.weight for change in result.changes} == {"origin"} and result.a.digest != result.b.digest


def test_equal_values_in_half_the_bytes_are_numerically_same(one: Path, tmp_path: Path) -> None:
    half = {name: tensor.astype(np.float16) for name, tensor in weights().items()}
    result = found(one, write(tmp_path / "two", half, dtype="float16"))
    assert result.outcome == "numerically same" and result.reasons == ()
    assert {(item.form_a, item.form_b) for item in result.tensors} == {("F32", "F16")} and result.compared == len(half)


def test_one_element_decides_unless_it_is_within_the_bound(one: Path, tmp_path: Path) -> None:
    changed = weights()
    changed["blocks.0.mlp.w1.weight"][1, 2] += 0.25
    other = write(tmp_path / "two", changed)
    result = found(one, other)
    assert result.outcome == "differs" and [item.name for item in result.tensors] == ["blocks.0.mlp.w1.weight"]
    assert result.reasons == (f"model.safetensors blocks.0.mlp.w1.weight: differs by up to 0.25, {result.tensors[0].psnr_db:.1f} dB",)
    assert found(one, other, 0.5).outcome == "numerically same" and found(one, other, 0.5).bound == 0.5


def test_the_worst_tensor_stands_first(one: Path, tmp_path: Path) -> None:
    changed = weights()
    for name, by in (("norm_f.weight", 1e-3), ("embed.weight", 0.5), ("blocks.0.attn.wq.weight", 1e-2)):
        changed[name] = changed[name] + np.float32(by)
    assert [item.name for item in found(one, write(tmp_path / "two", changed)).tensors] == [
        "embed.weight",
        "blocks.0.attn.wq.weight",
        "norm_f.weight",
    ]


@pytest.mark.parametrize(
    "changes", [{"step": 5}, {"arch": ARCH.model_copy(update={"rope_theta": 1e5})}, {"tokenizer": None}], ids=["step", "arch", "tokenizer"]
)
def test_a_field_that_says_what_it_is_decides(one: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    result = found(one, write(tmp_path / "two", weights(), **changes))
    assert result.outcome == "differs" and f"/{next(iter(changes))}" in result.reasons[0]


def test_a_file_that_nobody_looks_into_decides_by_its_bytes(one: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "two", weights())
    (other / checkpoint.CHAT_TEMPLATE).write_text("{{ messages }}")
    (other / checkpoint.FILE).write_bytes(io.pretty(describe(other)))
    assert found(one, other).reasons == ("chat_template.jinja: none against 14 bytes",)


def test_a_damaged_directory_is_not_compared(one: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "two", weights())
    file = other / checkpoint.WEIGHTS
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ContractError, match="sha256"):
        found(one, other)


def test_two_kinds_are_refused(one: Path, tmp_path: Path) -> None:
    from fakes.artifacts import write_dataset

    write_dataset(tmp_path / "data")
    with pytest.raises(UsageError, match=r"of kind `checkpoint`.*of kind `dataset`"):
        found(one, tmp_path / "data")


def test_an_artifact_of_an_earlier_version_is_compared_by_what_it_is() -> None:
    """The golden deployments of versions 1 and 2 hold the same files; version 1 listed its parts' contracts among them."""
    golden = GOLDEN.parent.parent
    result = found(golden / "v1" / "deployment", golden / "v2" / "deployment")
    assert result.outcome == "same" and result.a.digest != result.b.digest, result.reasons


def test_figures_of_gates_stand_side_by_side(tmp_path: Path) -> None:
    def lower(kind: str, document: dict[str, Any]) -> None:
        if kind == "package":
            document["gate"]["evidence"][0]["psnr_db"] = 51.5

    one, other = write_chain(tmp_path / "one"), write_chain(tmp_path / "two", lower)
    a, b = (package.PackageContract.model_validate_json(json.dumps(made["package"])) for made in (one, other))
    compared = compare_fields("package", a, b)
    assert len(compared.figures) > 50
    assert [(item.a, item.b) for item in compared.figures if item.a != item.b] == [(one["package"]["gate"]["evidence"][0]["psnr_db"], 51.5)]
    assert reasons_of(compared, ()) == () and outcome_of((), compared, ()) == "numerically same"


def test_evaluations_are_compared_by_what_was_measured(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_evaluation(tmp_path / name)
    result = found(tmp_path / "one", tmp_path / "two")
    assert result.outcome == "same"
    (tmp_path / "two" / "results.jsonl").write_text("{}\n")
    contract = io.read_contract(tmp_path / "two" / evaluation.FILE, evaluation.EvaluationContract)
    gates = (contract.gates[0].model_copy(update={"measured": 0.95, "low": 0.91}), contract.gates[1])
    changed = contract.model_copy(update={"gates": gates, "files": io.entries(tmp_path / "two")}).sealed()
    (tmp_path / "two" / evaluation.FILE).write_bytes(io.pretty(changed))
    result = found(tmp_path / "one", tmp_path / "two")
    assert result.outcome == "differs" and [(item.a, item.b) for item in result.figures if item.a != item.b] == [(1.0, 0.95)]


TOKENIZER = {"version": "1.0", "normalizer": None, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}


def more(document: dict[str, Any]) -> None:
    document["model"]["vocab"]["<bot>"] = 3


def moved(document: dict[str, Any]) -> None:
    document["model"]["vocab"] |= {"a": 1, "b": 0}


def merged(document: dict[str, Any]) -> None:
    document["model"]["merges"] = []


def normalized(document: dict[str, Any]) -> None:
    document["normalizer"] = {"type": "NFC"}


@pytest.mark.parametrize(
    ("edit", "place", "text"),
    [(more, "/model/vocab", "<bot>"), (moved, "/model/vocab ids", '"a" is 1'), (merged, "/model/merges", "[]"), (normalized, "/normalizer", "NFC")],
)
def test_tokenizers_differ_in_what_was_planted(tmp_path: Path, edit: Callable[[dict[str, Any]], None], place: str, text: str) -> None:
    other = json.loads(json.dumps(TOKENIZER))
    edit(other)
    for name, document in (("a", TOKENIZER), ("b", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    (change,) = compare_tokenizers(tmp_path / "a.json", tmp_path / "b.json").changes
    assert change.place == place and change.weight == "decides" and text in (change.b or "")


def test_a_tokenizer_in_another_layout_is_the_same_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(TOKENIZER))
    (tmp_path / "b.json").write_text(json.dumps(TOKENIZER, indent=2, sort_keys=True))
    assert compare_tokenizers(tmp_path / "a.json", tmp_path / "b.json").changes == ()


def test_configurations_differ_field_by_field(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(RuntimeConfig().to_json())
    (tmp_path / "b.json").write_bytes(RuntimeConfig(temperature=0.5, max_new_tokens=9).to_json())
    found_changes = compare_configs(tmp_path / "a.json", tmp_path / "b.json").changes
    assert {(item.place, item.a, item.b) for item in found_changes} == {("/temperature", "1.0", "0.5"), ("/max_new_tokens", "256", "9")}


def test_the_command_line_tells_the_outcome_and_keeps_its_exit_codes(one: Path, tmp_path: Path) -> None:
    changed = weights()
    changed["norm_f.weight"][0] += 0.0625
    other = write(tmp_path / "two", changed)
    said = interlock("diff", one, other)
    assert said.code == 0 and "differs: 1 reason\n" in said.out and "norm_f.weight" in said.out
    assert interlock("diff", one, other, "--exit-code").code == 1
    assert interlock("diff", one, one, "--exit-code").code == 0
    document = json.loads(interlock("diff", one, other, "--json", "--within", "1").out)
    assert document["outcome"] == "numerically same" and document["bound"] == 1 and document["tensors"][0]["max_abs"] == 0.0625
    interlock("diff", one, other, "--within", "2").refused(2, "no number from 0 to 1")
    interlock("diff", one, tmp_path / "nothing").refused(3, "no such directory")


def test_text_of_a_contract_cannot_steer_a_terminal(one: Path, tmp_path: Path) -> None:
    text = "\x1b]0;owned\x07\u202e[red]bold[/red]"
    source = describe(one).source.model_copy(update={"name": text})
    other = write(tmp_path / "two", {**weights(), text: np.ones(2, np.float32)}, source=source, step=3)
    said = interlock("diff", one, other)
    assert said.code == 0 and not {"\x1b", "\x07", "\u202e"} & set(said.out + said.err)
    assert "[red]bold" in said.out and "differs" in said.out
