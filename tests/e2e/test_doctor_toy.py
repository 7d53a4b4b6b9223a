"""The guide's troubleshooting list on a real deployed toy: sound it gives no alarm, broken in one place that place is named.

Contracts are edited and sealed again, so that only what they say is wrong; the saved package and the tokenizer are edited in their own bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.artifacts import resealed
from fakes.doctors import looked, wrong
from fakes.shell import interlock
from fakes.toys import write_latest, write_tokenizer

from interlock.contracts import checkpoint, deployment, export, io, package
from interlock.environments import ROOT
from pipeline.doctor.checks import OF_ARTIFACT
from pipeline.doctor.finding import Finding
from pipeline.doctor.place import Place
from pipeline.driver.store import Store
from pipeline.reports.doctor import show

pytestmark = pytest.mark.e2e

ALL = [check.name for check in OF_ARTIFACT]
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_latest(folder / "latest.pt")
    write_tokenizer(folder / "tokenizer")
    said = interlock(
        "deploy", "--checkpoint", folder / "latest.pt", "--tokenizer", folder / "tokenizer", "--out-dir", folder / "deployed",
        "--export-pytorch", "--export-coreml", "--halt-head", "--toy",
        environ={"INTERLOCK_STORE": str(folder / "store")},
    )  # fmt: skip
    assert said.code == 0, said.err
    return folder


@pytest.fixture
def broken(toy: Path, tmp_path: Path) -> Path:
    """A copy to be broken, with a store in which its checkpoint is found."""
    shutil.copytree(toy / "deployed", tmp_path / "deployed")
    kept = Store(tmp_path / "store").object_path(io.read_any(toy / "checkpoint").digest)
    shutil.copytree(toy / "checkpoint", kept)
    return tmp_path


def place(folder: Path, name: str = "deployed") -> Place:
    return Place(ROOT, Store(folder / "store"), "uv", folder / name)


def found(folder: Path, *names: str) -> list[Finding]:
    return wrong(looked(place(folder), *(names or ALL)))


def edit(file: Path, change: Edit) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(resealed(document) if "seal" in document else document))


def patch(folder: Path, old: bytes, new: bytes) -> None:
    """The same number of bytes in the saved protobuf, so that it stays one."""
    file = folder / "deployed" / "model.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    data = file.read_bytes()
    assert len(old) == len(new) and old in data
    file.write_bytes(data.replace(old, new))


@pytest.mark.parametrize("name", ["deployed", "package", "exported", "checkpoint"])
def test_a_sound_artifact_gives_no_alarm(toy: Path, name: str) -> None:
    told = looked(place(toy, name), *ALL)
    assert wrong(told) == []
    assert any("every file is what its contract says" in one.found for one in told)
    assert any(one.check == "halt-head" and "the halt head is there from the checkpoint's weights to" in one.found for one in told)


def set_false(*steps: str) -> Edit:
    def change(document: dict[str, Any]) -> None:
        for step in steps[:-1]:
            document = document[step]
        assert document[steps[-1]] is True
        document[steps[-1]] = False

    return change


def no_halt_in_decode(document: dict[str, Any]) -> None:
    outputs = document["signatures"][export.DECODE]["methods"]["forward"]["outputs"]
    outputs[:] = [output for output in outputs if output["name"] != "halt_logits"]


LINKS = [
    (export.FILE, set_false("model_arch", "use_halt_head"), "the export's architecture", "interlock export"),
    (export.FILE, set_false("use_halt_head"), "the export's contract", "interlock export"),
    (export.FILE, no_halt_in_decode, "the export's signatures", "interlock export"),
    (package.FILE, set_false("use_halt_head"), "the package's contract", "interlock convert"),
    (deployment.FILE, set_false("capabilities", "halt_head"), "the manifest", "interlock deploy"),
    (deployment.RUNTIME_CONFIG, set_false("halt_head_enabled"), "the runtime configuration", "export HALT_HEAD=1"),
]


@pytest.mark.parametrize(("file", "change", "link", "remedy"), LINKS, ids=[link[2] for link in LINKS])
def test_the_link_that_loses_the_halt_head_is_named(broken: Path, file: str, change: Edit, link: str, remedy: str) -> None:
    edit(broken / "deployed" / file, change)
    (lost,) = found(broken, "halt-head")
    assert lost.found.startswith(f"the halt head is lost at {link}") and remedy in lost.remedy
    assert str(broken / "deployed" / file) in lost.evidence
    assert lost.level == ("warning" if file == deployment.RUNTIME_CONFIG else "error")


def test_a_halt_head_lost_in_the_saved_package_or_in_the_checkpoint(broken: Path) -> None:
    (kept,) = (broken / "store").rglob(checkpoint.FILE)
    edit(kept, set_false("model_arch", "use_halt_head"))
    (lost,) = found(broken, "halt-head")
    assert lost.found == "the halt head is lost at the checkpoint's contract" and "interlock import" in lost.remedy
    shutil.rmtree(broken / "store")
    patch(broken, b"halt_logits", b"var_1234567")
    (lost,) = found(broken, "halt-head")
    assert lost.found == "the halt head is lost at the saved package" and "prefill_64" in lost.evidence


def test_a_halt_head_that_nothing_before_has_is_a_claim(broken: Path) -> None:
    for file in (export.FILE, package.FILE, deployment.FILE):
        edit(broken / "deployed" / file, lambda document: document.update(use_halt_head=False, capabilities={"halt_head": False}))
    shutil.rmtree(broken / "store")
    edit(broken / "deployed" / export.FILE, lambda document: document.update(model_arch={"use_halt_head": False}, signatures={}))
    shutil.rmtree(broken / "deployed" / "model.mlpackage")
    (claim,) = found(broken, "halt-head")
    assert claim.found == "the runtime configuration has a halt head, the manifest has none" and claim.level == "error"


def test_outputs_by_other_names_are_told_from_the_saved_file(broken: Path) -> None:
    patch(broken, b"halt_logits", b"var_1234567")
    named = found(broken, "outputs")
    assert len(named) == 4 and all("var_1234567" in one.found and "logits and halt_logits" in one.expected for one in named)
    edit(broken / "deployed" / export.FILE, no_halt_in_decode)
    assert any("the export's contract promises logits, hidden (forward of model_decode" in one.found for one in found(broken, "outputs"))
    assert "contract" in {one.check for one in found(broken, "contract")}


def reject(length: str) -> Edit:
    def change(document: dict[str, Any]) -> None:
        validation = document["shape_validation"]
        validation["results"][length] = {"status": "rejected", "error": "forward 61.2 dB: below 70 dB of the eager student"}
        validation["all_ok"] = False
        validation["primary_ok"] = length != str(validation["primary_shape"])
        document["enumerated_T"].remove(int(length))

    return change


def test_a_primary_length_that_was_not_validated_is_an_error_with_its_reason(broken: Path) -> None:
    edit(broken / "deployed" / export.FILE, reject("128"))
    told = found(broken, "shapes")
    assert told[0].level == "error" and "primary length 128 was not validated: forward 61.2 dB" in told[0].found
    assert any("declares lengths 64, 256" in one.found for one in told)


def test_another_length_that_was_rejected_is_a_warning_with_its_reason(broken: Path) -> None:
    edit(broken / "deployed" / export.FILE, reject("256"))
    (told,) = found(broken, "shapes")
    assert told.level == "warning" and told.found == "length 256 was rejected: forward 61.2 dB: below 70 dB of the eager student"


def test_a_package_that_does_not_take_the_primary_length(broken: Path) -> None:
    patch(broken, b"prefill_128", b"prefill_129")
    (told,) = found(broken, "shapes")
    assert told.level == "error" and "does not take the primary length 128" in told.found and "64, 129, 256" in told.expected


def test_latent_mode_without_training_names_who_switched_it_on(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENT_MODE", "1")
    (told,) = found(broken, "latent-mode")
    assert told.level == "error" and told.remedy == "unset LATENT_MODE" and "no latent training" in told.found
    monkeypatch.delenv("LATENT_MODE")
    config = broken / "deployed" / deployment.RUNTIME_CONFIG
    edit(config, lambda document: document.update(latent_mode_enabled=True))
    (told,) = found(broken, "latent-mode")
    assert str(config) in told.evidence and "--latent-mode" in told.remedy


def test_latent_mode_that_cannot_come_to_a_span(broken: Path) -> None:
    """As a later export will have it: with training, but switched off, without room, without its tokens."""
    edit(broken / "deployed" / deployment.FILE, lambda document: document["capabilities"].update(latent_reasoning=True))
    (off,) = found(broken, "latent-mode")
    assert off.level == "warning" and "LATENT_MODE=1" in off.remedy
    config = broken / "deployed" / deployment.RUNTIME_CONFIG
    edit(config, lambda document: document.update(latent_mode_enabled=True, caws_tier="tier_1", curriculum_probability=0.0))
    (tier,) = found(broken, "latent-mode")
    assert "tier_1 allows no latent span and curriculum_probability is 0" in tier.found
    file = broken / "deployed" / checkpoint.TOKENIZER
    file.write_text(file.read_text().replace("<bot>", "<BOT>"))
    ids, missing = found(broken, "latent-mode")
    assert ids.found == "<bot> is None in the file and 259 in the contract" and "no <bot>" in missing.found


def test_a_placeholder_is_no_package(broken: Path) -> None:
    (broken / "deployed" / ".placeholder").write_text("")
    assert [one.found for one in found(broken, "placeholder")] == ["model.mlpackage is a placeholder"]
    (broken / "deployed" / ".placeholder").unlink()
    shutil.rmtree(broken / "deployed" / "model.mlpackage")
    (broken / "deployed" / "model.mlpackage").mkdir()
    assert [one.found for one in found(broken, "placeholder")] == ["model.mlpackage has no model in it"]
    assert "no outputs that can be read" in found(broken, "outputs")[0].found


def test_who_made_it_and_what_the_converter_said(broken: Path) -> None:
    edit(broken / "deployed" / package.FILE, lambda document: document["created_by"]["environment"].update(python="3.13.0"))
    (told,) = found(broken, "producers")
    assert told.level == "warning" and "made by Python 3.13.0 (a toy" in told.found and ">=3.10,<3.12" in told.expected
    edit(broken / "deployed" / package.FILE, lambda document: document.update(toy=False))
    assert found(broken, "producers")[0].level == "error"
    edit(broken / "deployed" / package.FILE, lambda document: document["messages"].append({"text": "overflow in y", "count": 1, "harmless": None}))
    (said,) = found(broken, "converter-messages")
    assert said.level == "warning" and "overflow in y" in said.found


def test_changed_files_and_contracts_that_are_none_are_named_by_verify(broken: Path) -> None:
    program = broken / "deployed" / export.PREFILL
    data = bytearray(program.read_bytes())
    data[len(data) // 2] ^= 1
    program.write_bytes(data)
    (changed,) = found(broken, "contract")
    assert changed.level == "error" and changed.evidence == str(program) and "sha256" in changed.expected
    file = broken / "deployed" / export.FILE
    file.write_bytes(file.read_bytes()[:1000])
    told = found(broken)
    assert any(one.check == "contract" and str(file) in one.evidence for one in told)
    assert not any("the check itself failed" in one.found for one in told)


def test_values_of_any_type_make_no_check_fail(broken: Path) -> None:
    """What a contract says may be anything: each field in turn becomes a list, a number, nothing."""
    names = [name for name in ALL if name not in ("contract", "device-rules")]
    functions = place(broken).artifact.functions
    for file in (export.FILE, package.FILE, deployment.FILE, deployment.RUNTIME_CONFIG):
        whole = (broken / "deployed" / file).read_text()
        for field in json.loads(whole):
            for value in ([7, None], {"a": {"b": []}}, None):
                (broken / "deployed" / file).write_text(json.dumps(json.loads(whole) | {field: value}))
                here = place(broken)
                vars(here.artifact)["functions"] = functions  # decoded once: they do not change
                bad = [one for one in looked(here, *names) if "the check itself failed" in one.found]
                assert bad == [], (file, field, value)
        (broken / "deployed" / file).write_text(whole)


def test_the_command_tells_both_exit_codes_and_one_document(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(broken / "deployed" / export.FILE, reject("128"))
    said = interlock("doctor", broken / "deployed", "--json", environ={"INTERLOCK_STORE": str(broken / "store")})
    document = json.loads(said.out)
    levels = {(one["group"], one["level"]) for one in document["findings"]}
    assert document["exit_code"] == said.code and "Traceback" not in said.err
    assert said.code == (4 if any(level == "error" and group != "artifact" for group, level in levels) else 3)
    assert set(document["findings"][0]) == {"level", "found", "expected", "remedy", "evidence", "group", "check"}
    assert {one["check"] for one in document["findings"]} >= set(ALL)
    show(Finding(**one) for one in document["findings"])
    plain = capsys.readouterr().out
    assert "  x  shapes: the primary length 128 was not validated" in plain and "       remedy   interlock export" in plain
