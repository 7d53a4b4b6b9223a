"""Builds of stub stages in real processes: outputs, failures, what is remembered, what is taken back, what is cleaned."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fakes.artifacts import resealed
from fakes.stub_builds import StubProject, interpreter

from pipeline.driver.why import leaves

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interpreter(tmp_path_factory.mktemp("python") / "venv")


@pytest.fixture
def project(python: Path, tmp_path: Path) -> StubProject:
    made = StubProject(tmp_path / "project", python)
    made.write()
    return made.asked_before()


def states(report: dict[str, object]) -> dict[str, str]:
    steps = report["steps"]
    assert isinstance(steps, list)
    return {step["step"]: step["state"] for step in steps}


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(project: StubProject) -> list[Path]:
    return sorted((project.folder / ".interlock" / "store" / "objects").glob("*/*"))


def test_a_build_makes_each_step_once_and_then_nothing(project: StubProject) -> None:
    assert set(states(project.build()).values()) == {"made"}
    out = files(project.folder / "out" / "loudest")
    assert json.loads(out["train.jsonl"].splitlines()[0]) == {"text": "word 0!!!!"}
    assert set(states(project.build()).values()) == {"kept"}
    assert files(project.folder / "out" / "loudest") == out and len(stored(project)) == 3


def test_one_step_alone_is_made_with_what_it_rests_on(project: StubProject) -> None:
    """From nothing: what it rests on is made too, what comes after it is not."""
    assert states(project.build("chain.toml", "--only", "louder")) == {"words": "made", "louder": "made", "loudest": "waiting"}
    assert not (project.folder / "out").exists() and len(stored(project)) == 2
    assert states(project.build()) == {"words": "kept", "louder": "kept", "loudest": "made"}


def test_why_names_the_value_inside_a_table(tmp_path: Path) -> None:
    """Two preimages of a training whose parameters are tables in tables."""
    old = {
        "source": "s", "environment": {"name": "train", "lock": "l", "python": "3.13", "requires_python": ">=3.13", "platform": "p"}, "toy": False,
        "inputs": {}, "params": {"settings": {"steps": 30, "latent": {"whole": 0.7, "text": 0.25}, "lr": 0.001}},
    }  # fmt: skip
    new = json.loads(json.dumps(old))
    new["params"]["settings"]["steps"] = 1000
    new["params"]["settings"]["latent"]["whole"] = 0.5
    assert leaves(old, new, lambda digest: {}) == ["parameter settings.latent.whole: 0.7 → 0.5", "parameter settings.steps: 30 → 1000"]
    del new["params"]["settings"]["latent"]
    assert leaves(old, new, lambda digest: {})[0] == "parameter settings.latent: {'whole': 0.7, 'text': 0.25} → the default"


def test_an_output_is_a_copy_and_what_is_in_the_store_cannot_be_written(project: StubProject) -> None:
    project.build()
    for path in project.folder.joinpath("out").rglob("*.jsonl"):
        assert path.stat().st_nlink == 1 and path.stat().st_mode & 0o200
    assert not any(path.stat().st_mode & 0o222 for place in stored(project) for path in place.rglob("*") if path.is_file())


@pytest.mark.parametrize("harm", ["edit", "delete", "same size and time", "extra", "gone"])
def test_a_changed_output_is_put_right(project: StubProject, harm: str) -> None:
    project.build()
    out = project.folder / "out" / "loudest"
    whole, file = files(out), out / "train.jsonl"
    if harm == "edit":
        file.write_text("no")
    elif harm == "delete":
        file.unlink()
    elif harm == "same size and time":
        stat = file.stat()
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif harm == "extra":
        (out / "mine.txt").write_text("keep me")
    else:
        shutil.rmtree(out)
    if harm == "extra":
        # A file of the user's is never overwritten.
        project.run("build", "chain.toml", "--launcher", "current").refused(2, "did not write")
        assert (out / "mine.txt").read_text() == "keep me"
        return
    assert set(states(project.build()).values()) == {"kept"}
    assert files(out) == whole


def test_a_damaged_object_is_made_again_and_never_a_result(project: StubProject) -> None:
    project.build()
    whole = files(project.folder / "out" / "loudest")
    shutil.rmtree(project.folder / "out")
    for place in stored(project):
        victim = place / "train.jsonl"
        victim.chmod(0o644)
        victim.write_bytes(victim.read_bytes()[:-2] + b"X\n")
    said = project.run("fsck")
    assert said.code == 3 and said.out.count("train.jsonl: expected") == 3
    assert set(states(project.build()).values()) == {"made"}
    assert files(project.folder / "out" / "loudest") == whole
    assert len(list((project.folder / ".interlock" / "store" / "quarantine").glob("*.json"))) == 3
    assert project.run("fsck").code == 0


@pytest.mark.parametrize("words", [("--from", "words"), ()], ids=["made again by hand", "plain"])
def test_what_an_earlier_environment_made_is_made_again_and_admitted(project: StubProject, words: tuple[str, ...]) -> None:
    """Equal bytes have one digest, whoever made them. After a lock has moved the store has them by a maker that no reader admits any more."""
    project.build()
    for place in stored(project):
        file = place / "dataset_contract.json"
        document = json.loads(file.read_bytes())
        document["created_by"]["environment"] |= {"lock_digest": "0" * 64, "packages": {}}
        file.chmod(0o644)
        file.write_text(json.dumps(resealed(document)))
        file.chmod(0o444)
    recipe = project.folder / "chain.toml"
    recipe.write_text(recipe.read_text().replace("times = 3", "times = 2"))
    said = states(project.build("chain.toml", *words))
    assert said["louder"] == "made" and said["loudest"] == "made"
    makers = {json.loads((place / "dataset_contract.json").read_bytes())["created_by"]["environment"]["lock_digest"] for place in stored(project)}
    assert len(makers) == 2  # what nobody had to read, the loudest of before, is as it was
    assert not any(place.stat().st_mode & 0o222 for place in stored(project) for place in place.glob("*.json"))


def test_fsck_moves_what_is_damaged_aside(project: StubProject) -> None:
    project.build()
    store = project.folder / ".interlock" / "store"
    place = stored(project)[0]
    (place / "extra").write_text("x")
    next((store / "actions").glob("*/*.json")).write_text("{")
    (store / "details" / f"{'0' * 64}.json").write_text("no")
    findings = json.loads(project.run("fsck", "--json").out)["findings"]
    assert len(findings) == 3 and not any(finding["repaired"] for finding in findings)
    assert project.run("fsck", "--repair").code == 0
    assert project.run("fsck").code == 0 and not place.exists()
    assert set(states(project.build()).values()) <= {"kept", "made"}


def test_equal_bytes_cut_the_build_off(project: StubProject) -> None:
    project.build()
    # Another duration is another parameter, and the same words.
    text = (project.folder / "chain.toml").read_text()
    (project.folder / "chain.toml").write_text(text.replace("sleep_s = 0.0", "sleep_s = 0.01", 1))
    assert states(project.build()) == {"words": "made", "louder": "kept", "loudest": "kept"}


def test_a_gate_that_refuses_is_remembered_until_something_changes(project: StubProject) -> None:
    text = (project.folder / "chain.toml").read_text().replace("times = 3", "refuse = true")
    (project.folder / "chain.toml").write_text(text)
    words = ("build", "chain.toml", "--launcher", "current")
    project.run(*words).refused(6, "not good enough", "measured 1, threshold 2")
    assert not (project.folder / "out").exists()
    again = project.run(*words)
    again.refused(6, "nothing has changed since")
    forced = project.run(*words, "--force")
    forced.refused(6, "not good enough")
    assert "nothing has changed since" not in forced.err


def test_after_a_failure_what_does_not_rest_on_it_is_made_on_wish(project: StubProject) -> None:
    more = "".join(
        f'\n[[stages]]\nstage = "words"\nname = "{name}"\nparams = {{ {params} }}\n' for name, params in (("bad", "rows = 0"), ("last", "text = 'x'"))
    )
    project.write("two", more=more)
    said = project.run("build", "two.toml", "--launcher", "current", "--json", "--set", 'outputs=["loudest", "bad", "last"]', "--keep-going")
    assert said.code not in (0, 1) and "Traceback" not in said.err.split("hint")[-1]
    report = json.loads(said.out)
    assert states(report) == {"words": "made", "louder": "made", "loudest": "made", "bad": "failed", "last": "made"}
    assert report["exit_code"] == said.code and report["error"]["remedy"]


def test_rollback_puts_the_state_before_back(project: StubProject) -> None:
    out = project.folder / "out" / "loudest"
    seen = []
    for text in ("one", "two", "three"):
        project.write(text=text)
        project.build()
        seen.append(files(out))
    listed = project.run("rollback", out, "--list").out.splitlines()
    assert len(listed) == 3 and "now" in listed[0]
    assert project.run("rollback", out).code == 0
    assert files(out) == seen[1]
    assert project.run("rollback", out, "--to", listed[2][:16]).code == 0
    assert files(out) == seen[0]
    project.run("rollback", out, "--to", "ffff").refused(2, "no such earlier state")
    project.run("rollback", project.folder).refused(2, "not placed by a build")
    assert set(states(project.build()).values()) == {"kept"}
    assert files(out) == seen[2]


def test_gc_keeps_outputs_their_history_and_what_they_were_made_from(project: StubProject) -> None:
    for text in ("one", "two"):
        project.write(text=text)
        project.build()
    assert len(stored(project)) == 6
    said = json.loads(project.run("gc", "--keep", "0s", "--json").out)
    assert said["objects"] == [] and said["kept"] == 6
    shutil.rmtree(project.folder / ".interlock" / "outputs")
    dry = json.loads(project.run("gc", "--keep", "0s", "--dry-run", "--json").out)
    assert len(dry["objects"]) == 6 and len(stored(project)) == 6
    assert json.loads(project.run("gc", "--json").out)["objects"] == [], "what has just come stays"
    half = json.loads(project.run("gc", "--max-size", "4kB", "--json").out)
    assert 0 < len(half["objects"]) < 6 and half["kept_bytes"] <= 4000
    project.run("gc", "--keep", "0s")
    assert stored(project) == []
    assert set(states(project.build()).values()) == {"kept"}, "the output lies in its place, and nothing else is needed"
    shutil.rmtree(project.folder / "out")
    assert set(states(project.build()).values()) == {"made"}


def test_gc_takes_what_killed_runs_left_to_go_on_from_once_it_is_old(project: StubProject) -> None:
    project.build()
    state = project.folder / ".interlock" / "store" / "state" / ("0" * 64) / "student"
    state.mkdir(parents=True)
    (state / "training_state.safetensors").write_bytes(b"x" * 1000)
    kept = json.loads(project.run("gc", "--json").out)
    assert kept["states"] == [] and state.is_dir()
    taken = json.loads(project.run("gc", "--keep", "0s", "--json").out)
    assert taken["states"] == [{"key": "0" * 64, "bytes": 1000}] and taken["freed_bytes"] >= 1000
    assert not state.exists() and project.build()["exit_code"] == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_stage_and_keeps_what_was_finished(project: StubProject, number: int, code: int) -> None:
    text = (project.folder / "chain.toml").read_text().replace("times = 3, sleep_s = 0.0", "times = 3, sleep_s = 30")
    (project.folder / "chain.toml").write_text(text)
    environ = {**os.environ, **project.environ}
    child = subprocess.Popen(
        project.argv("build", "chain.toml", "--launcher", "current"), cwd=project.folder, env=environ, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("loudest: running"):
            break
    time.sleep(0.5)
    started = time.monotonic()
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    assert child.returncode == code and time.monotonic() - started < 12
    assert "2 finished steps are kept" in said and "Traceback" not in said
    assert len(stored(project)) == 2 and list((project.folder / ".interlock" / "store" / "work").iterdir()) == []
    (project.folder / "chain.toml").write_text(text.replace("sleep_s = 30", "sleep_s = 0.0"))
    assert states(project.build()) == {"words": "kept", "louder": "kept", "loudest": "made"}


def test_a_matrix_shares_what_its_cells_have_in_common(project: StubProject) -> None:
    project.write("cells", more='\n[matrix]\n"stages.loudest.params.times" = [1, 2, 3, 4]\n')
    report = project.build("cells.toml", "--jobs", "2")
    assert len(report["steps"]) == 6 and len(report["cells"]) == 4 and not (project.folder / "out").exists()
    assert set(states(project.build("cells.toml")).values()) == {"kept"}
    refused = project.run("build", "cells.toml", "--launcher", "current", "--best", "smallest where bytes < 1", "--json")
    assert refused.code == 6 and json.loads(refused.out)["best"] is None
    best = project.build("cells.toml", "--best", "smallest where all gates pass")
    assert best["best"] == "times=1" and (project.folder / "out" / "loudest" / "dataset_contract.json").exists()


def test_the_same_build_elsewhere_gives_the_same_bytes(project: StubProject, tmp_path: Path) -> None:
    project.build()
    other = StubProject(tmp_path / "another place" / "été", project.python)
    other.write()
    other.build()
    mine, theirs = (files(one.folder / "out" / "loudest") for one in (project, other))
    assert mine == theirs


def test_projects_can_share_a_store(project: StubProject, tmp_path: Path) -> None:
    other = StubProject(tmp_path / "other", project.python)
    other.write()
    shared = str(tmp_path / "shared")
    made = []
    for one in (project, other):
        environ = {**os.environ, **one.environ, "INTERLOCK_STORE": shared}
        argv = one.argv("build", "chain.toml", "--launcher", "current", "--json")
        done = subprocess.run(argv, cwd=one.folder, env=environ, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        made.append(set(states(json.loads(done.stdout)).values()))
    assert made == [{"made"}, {"kept"}]
    assert files(project.folder / "out") == files(other.folder / "out")


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "other JSON"])
def test_damaged_notes_cost_time_and_nothing_else(project: StubProject, harm: str) -> None:
    """Every file beside the objects: tables, outputs, builds, actions, details, offers."""
    project.build()
    whole = files(project.folder / "out")
    home = project.folder / ".interlock"
    notes = [path for path in home.rglob("*") if path.is_file() and "objects" not in path.parts and path.suffix == ".json"]
    assert {path.relative_to(home).parts[0] for path in notes} >= {"index.json", "outputs", "builds", "store"}
    for note in notes:
        data = note.read_bytes()
        middle = len(data) // 3
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        note.write_bytes({"flip": flipped, "cut": data[:middle], "empty": b"", "other JSON": b'{"files": 3, "steps": [], "digest": 1}\n'}[harm])
    for words in (("plan", "chain.toml", "--launcher", "current"), ("status",), ("why", "words", "--recipe", "chain.toml", "--launcher", "current")):
        said = project.run(*words)
        assert said.code == 0 and "Traceback" not in said.err, said
    project.build()
    assert files(project.folder / "out") == whole
    assert set(states(project.build()).values()) == {"kept"}
