"""`interlock train` in real processes: the build's own step, placed and watched; its estimate, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from fakes.shell import Said, interlock, module

from interlock.contracts import checkpoint, io
from pipeline.reports.estimate import rows
from pipeline.reports.training_log import lines_of
from pipeline.training.estimate import Estimate

pytestmark = pytest.mark.train

SMALL = {
    "data.parameters": "{train=300, validation=60, test=60, depths='1..2'}", "train.steps": "6", "train.evaluate_every": "3", "train.batch": "16",
    "train.scratch.d_model": "32", "train.scratch.n_layers": "1", "train.scratch.n_heads": "2", "train.scratch.n_kv_heads": "1",
    "train.scratch.d_head": "16", "train.scratch.d_ff": "32", "train.latent.controls": "['pause', 'direct']",
}  # fmt: skip


def asked(*words: object, **more: str) -> list[object]:
    sets = [word for key, value in (SMALL | more).items() for word in ("--set", f"{key}={value}")]
    return [*words, *sets, "--launcher", "current"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def estimate(folder: Path) -> tuple[Said, list[str]]:
    """A dry run before anything was made, and the files that it left."""
    said = interlock(*asked("train", "toy", "--dry-run", "--json"), cwd=folder, environ={"INTERLOCK_HOME": str(folder / "home")})
    return said, sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def said(folder: Path, estimate: object) -> Said:
    return interlock(
        *asked("train", "toy", "--output-dir", "out", "--tensorboard", "events"), cwd=folder, environ={"INTERLOCK_HOME": str(folder / "home")}
    )


def contract_in(folder: Path) -> checkpoint.CheckpointContract:
    return io.read_artifact(folder / "out" / "checkpoint", checkpoint.CheckpointContract)


def test_the_checkpoint_is_placed_with_its_log(folder: Path, said: Said) -> None:
    assert said.code == 0, said.err
    contract = contract_in(folder)
    lines = lines_of(folder / "out" / "checkpoint", contract)
    assert [line.step for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [sorted(line.accuracy) for line in lines if line.validation is not None] == [["spans", "text"]] * 2
    assert all(list(shares) == ["1", "2"] for line in lines for shares in line.accuracy.values()) and len(lines[-1].samples) == 2


def test_a_log_of_lines_has_the_evaluations_and_no_figures(folder: Path, said: Said) -> None:
    told = [line for line in said.err.splitlines() if "validation loss" in line]
    assert len(told) == 6 and "figures: " not in said.err, "two evaluations of the student and of each control"
    assert "control pause: step 3 of 6" in said.err and "spans right" in told[0] and "text right" in told[-1]
    assert re.search(r"text right \d\.\d\d \d\.\d\d$", told[-1]), "that control answers at once, and is judged by the steps it left out"
    log = next((folder / "home" / "logs").rglob("train-*.log")).read_text()
    assert "figures: " not in log and log.count("validation loss") == 6
    assert "right answers by number of steps, of 60 held-out rows" in said.out and "that they help" in said.out


def test_every_run_has_event_files(folder: Path, said: Said) -> None:
    assert sorted(path.name for path in (folder / "events").iterdir()) == ["direct", "pause", "student"]
    (file,) = (folder / "events" / "student").iterdir()
    assert file.read_bytes().count(b"loss/total") == 6 and file.read_bytes().count(b"validation/mean") == 2


def test_it_is_the_build_s_own_step(folder: Path, said: Said) -> None:
    """Same key, same store: a build makes nothing anew, and neither does another train, whose event files then come from the log."""
    home = {"INTERLOCK_HOME": str(folder / "home")}
    built = interlock(*asked("build", "toy", "--only", "train", "--json", output="elsewhere"), cwd=folder, environ=home)
    assert built.code == 0, built.err
    states = {step["step"]: step["state"] for step in json.loads(built.out)["steps"]}
    assert states["train"] == "kept" and states["data"] == "kept"
    again = interlock(*asked("train", "toy", "--output-dir", "out", "--tensorboard", "later"), cwd=folder, environ=home)
    assert again.code == 0 and "up to date" in again.out
    (file,) = (folder / "later" / "student").iterdir()
    assert file.read_bytes().count(b"loss/total") == 6


def test_an_estimate_makes_nothing(estimate: tuple[Said, list[str]]) -> None:
    dry, files = estimate
    assert dry.code == 0, dry.err
    assert files == ["home/index.json"], "the table of file digests, and nothing else"


def test_an_estimate_is_true_where_it_is_exact(folder: Path, estimate: tuple[Said, list[str]], said: Said) -> None:
    dry, contract = json.loads(estimate[0].out), contract_in(folder)
    parts, memory = dry["parameters"], dry["memory_bytes"]
    arch = contract.arch
    decoder = 2 * arch.d_model**2  # two of three tokens of a step have a map of their own
    assert sum(parts.values()) - decoder == contract.parameters and parts["thrown away after training"] == decoder
    assert parts["embedding"] == parts["language head"] == arch.vocab_size * arch.d_model and parts["halt head"] == 2 * arch.d_model + 2
    assert memory["weights"] == memory["gradients"] == 4 * sum(parts.values()) and memory["optimizer"] == 2 * memory["gradients"]
    assert memory["activations"] > 16 * 4 * arch.vocab_size, "at least the logits of one position of each row"
    assert (dry["rows"], dry["steps"], dry["runs"], dry["evaluations"], dry["before"]) == (300, 6, 3, 2, None)
    assert dry["steps_per_epoch"] == 2 * (150 // 16) and dry["epochs"] == pytest.approx(6 / 18)
    lines = (folder / "home" / "store").rglob("train.jsonl")
    made = [json.loads(line) for line in next(lines).read_text().splitlines()]
    # every word of this task is a token, and one more ends a row
    assert dry["row_tokens"] == sum(len(f"{row['prompt']} {' '.join(row['steps'])} {row['answer']}".split()) + 1 for row in made)
    assert dry["step_s"] > 0 and dry["total_s"] == pytest.approx(3 * (6 * dry["step_s"] + 2 * dry["evaluation_s"]))


def test_an_estimate_says_what_it_rests_on(estimate: tuple[Said, list[str]], said: Said) -> None:
    found = msgspec.convert({**json.loads(estimate[0].out)}, Estimate)
    told = dict(rows(found, (7200.0, True)))
    assert told["time"].startswith("about ") and "steps taken here" in told["time"] and "for each of 3 runs" in told["steps"]
    decoder = found.parameters["thrown away after training"]
    assert told["parameters"].startswith(f"{sum(found.parameters.values()) - decoder:,}: embedding ")
    texts = [text for _, text in rows(found, (7200.0, True))]
    assert "2 h 00 min took this very training here" in texts and any(text.startswith("estimate: activations ") for text in texts)


def test_a_recipe_without_training_is_refused() -> None:
    interlock("train", "random").refused(2, "`random` trains nothing", "such as `toy`")


def test_event_files_have_a_place_of_their_own(folder: Path, said: Said) -> None:
    """Refused before any work: inside an artifact, and where a file is."""
    home = {"INTERLOCK_HOME": str(folder / "home")}
    for place, code, text in (("out/checkpoint/events", 2, "artifact directory"), ("home/index.json", 2, "is no folder")):
        interlock(*asked("train", "toy", "--force", "--tensorboard", place), cwd=folder, environ=home).refused(code, text)
    contract_in(folder)


def test_the_guide_s_entry_takes_the_guide_s_flag(tmp_path: Path) -> None:
    """`toy` starts from random weights, so that a checkpoint to start from contradicts it: the flag arrived."""
    module("pipeline.run_distill", "toy", "--checkpoint", tmp_path / "latest.pt").refused(3, "from [source] or from [train.scratch]")


def test_the_rank_of_adapters_is_a_value_of_the_recipe() -> None:
    interlock("train", "toy", "--lora", "0", "--dry-run").refused(3, "/train/lora/rank", ">= 1")
