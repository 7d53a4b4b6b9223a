"""The driver against bad stages, lost folders, other builders at the worst moment, and places that are not its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fakes import wild_package
from fakes.publications import NEW, OLD
from fakes.store_work import make
from fakes.stub_builds import StubProject, interpreter

from interlock import fs
from interlock.calls import Fs
from pipeline.driver import fsck, gc
from pipeline.driver.outputs import Outputs
from pipeline.driver.store import Lease, Store, inode

pytestmark = pytest.mark.train
BUILD = ("build", "chain.toml", "--launcher", "current")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = interpreter(tmp_path_factory.mktemp("python") / "venv")
    wild_package.install(made, tmp_path_factory.mktemp("wild") / "package")
    return made


@pytest.fixture
def project(python: Path, tmp_path: Path) -> StubProject:
    made = StubProject(tmp_path / "project", python)
    made.write()
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "home" / "store")
    made.prepare()
    return made


def alone(project: StubProject, stage: str, params: str = "") -> None:
    """A recipe of one wild stage."""
    (project.folder / "chain.toml").write_text(f'output = "out"\noutputs = ["{stage}"]\n[[stages]]\nstage = "{stage}"\nparams = {{{params}}}\n')


def test_a_store_of_another_form_is_refused_and_a_damaged_note_of_it_written_again(project: StubProject) -> None:
    home = project.folder / ".interlock" / "store"
    home.mkdir(parents=True)
    (home / "form").write_bytes(b"2\n")
    project.run(*BUILD).refused(5, "has form '2'")
    for damaged in (b"\xff\xfe", b""):
        (home / "form").write_bytes(damaged)
        assert project.run(*BUILD, "--force").code == 0 and (home / "form").read_bytes() == b"1\n"


@pytest.mark.parametrize("part", ["leases", "work", "locks", "details", "actions"])
def test_folders_of_the_store_may_be_lost(project: StubProject, part: str) -> None:
    project.build()
    shutil.rmtree(project.folder / ".interlock" / "store" / part)
    shutil.rmtree(project.folder / ".interlock" / "outputs")
    taken = json.loads(project.run("gc", "--keep", "0s", "--json").out)
    assert len(taken["objects"]) == 3 and list((project.folder / ".interlock" / "store" / "objects").glob("*/*")) == []
    assert project.run("fsck").code == 0


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_an_output_whose_contract_is_damaged_is_put_right(project: StubProject, harm: str) -> None:
    project.build()
    contract = project.folder / "out" / "loudest" / "dataset_contract.json"
    data = contract.read_bytes()
    contract.unlink()
    if harm != "gone":
        contract.write_bytes(data[:99] + {"flip": b"\x00" + data[100:], "cut": b""}[harm])
    project.build()
    assert contract.read_bytes() == data


def test_a_folder_of_equal_names_is_not_ours(project: StubProject) -> None:
    """An output was removed, and a person's folder has the names that it had."""
    project.build()
    out = project.folder / "out" / "loudest"
    shutil.rmtree(out)
    out.mkdir()
    (out / "train.jsonl").write_text("mine")
    project.run(*BUILD).refused(2, "did not write")
    assert (out / "train.jsonl").read_text() == "mine"


def test_a_place_that_is_taken_is_refused_before_any_work(project: StubProject) -> None:
    (project.folder / "out" / "loudest").mkdir(parents=True)
    (project.folder / "out" / "loudest" / "thesis.txt").write_text("mine")
    project.run(*BUILD).refused(2, "did not write")
    assert not (project.folder / ".interlock" / "store").exists()


@pytest.mark.parametrize("output", [".interlock/store/objects", ".interlock/outputs", ".interlock"])
def test_no_output_lies_in_what_is_ours_through_a_link_either(project: StubProject, tmp_path: Path, output: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (project.folder / ".interlock").symlink_to(tmp_path / "elsewhere")
    for place in (output, output.replace(".interlock", "../elsewhere")):
        project.run(*BUILD, "--set", f"output={place}").refused(2, "interlock's own")
    assert not (tmp_path / "elsewhere" / "store").exists()


def test_no_output_lies_in_another(project: StubProject) -> None:
    project.build()
    project.run(*BUILD, "--set", "output=out/loudest").refused(2, "an artifact itself")
    assert {step["state"] for step in project.build()["steps"]} == {"kept"}


class Overtaken(Fs):
    """Another builder replaces the output between its publication and its record."""

    def __init__(self, out: Path, meanwhile: Outputs, digest: str, lease: Lease) -> None:
        self._do, self._then = (meanwhile, out, digest, lease), out.parent

    def fsync(self, path: Path) -> None:
        super().fsync(path)
        if path == self._then and self._do is not None:
            outputs, out, digest, lease = self._do
            self._do = None  # type: ignore[assignment]
            outputs.place(out, digest, lease)
            time.sleep(0.2)


def test_a_record_vouches_for_nothing_that_another_build_placed(store: Store, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    with Lease(store) as lease:
        old, new = (make(store, fill, lease) for fill in (OLD, NEW))
        outputs = Outputs(home, store)
        Outputs(home, Store(store.root, Overtaken(out, outputs, new, lease))).place(out, old, lease)
        assert outputs.record(out)["digest"] == old, "the slower one wrote last"
        assert not outputs.in_place(out, old)
        assert outputs.in_place(out, new)


def test_a_build_killed_before_its_record_loses_no_earlier_state(store: Store, tmp_path: Path) -> None:
    outputs, out = Outputs(tmp_path / "home", store), tmp_path / "out"
    with Lease(store) as lease:
        old, new = (make(store, fill, lease) for fill in (OLD, NEW))
        outputs.place(out, old, lease)
        record = next((tmp_path / "home" / "outputs").glob("*.json"))
        before = record.read_bytes()
        outputs.place(out, new, lease)
        record.write_bytes(before)
        shutil.copytree(out, tmp_path / "out.partial-12345678")
        assert outputs.in_place(out, new)
        assert not (tmp_path / "out.partial-12345678").exists(), "what it had replaced is removed"
        assert outputs.rollback(out, None, lease) == old


def test_what_was_made_again_while_it_was_read_stays(store: Store) -> None:
    with Lease(store) as lease:
        digest = make(store, OLD, lease)
    path = store.object_path(digest)
    seen = inode(path)
    moved = store.quarantine(path, "damaged", seen)
    assert moved is not None and not path.exists()
    moved.rename(path)
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    shutil.rmtree(path)
    copy.rename(path)
    assert store.quarantine(path, "damaged", seen) is None and store.sound(digest)


def test_evidence_that_is_being_kept_is_not_cleaned_away(store: Store, tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "home", store)
    with fs.workspace(store.rejected_path("0" * 64)) as work:
        work.write("evidence.json", b"{}")
        assert gc.collect(store, outputs, keep_s=-1).rejected == []
        assert fsck.check(store, repair=True) == [] and (work.path / "evidence.json").exists()
    store.rejected_path("x.partial-12345678").mkdir()
    assert [finding.path for finding in fsck.check(store)] == ["rejected/x.partial-12345678"]
    assert gc.collect(store, outputs).leftovers == 1


@pytest.mark.parametrize("stage", ["daemon", "runaway"])
def test_what_a_stage_started_holds_up_no_build(project: StubProject, stage: str) -> None:
    alone(project, stage)
    project.run("plan", "chain.toml", "--launcher", "current")
    started = time.monotonic()
    project.build()
    # A process that left the group lives five seconds, and has our streams.
    assert time.monotonic() - started < 4.5
    assert stage == "runaway" or subprocess.run(["pgrep", "-f", "sleep 977"], capture_output=True, check=False).stdout == b""


def test_a_stage_that_talks_without_end_is_heard_to_the_end(project: StubProject) -> None:
    alone(project, "loud")
    report = project.build()
    log = Path(report["steps"][0]["log"]).read_bytes()
    assert log.count(b"and on and on") == 20000 and b"\x1b" not in log


def test_a_stage_that_does_not_listen_is_ended_at_the_second_word(project: StubProject) -> None:
    alone(project, "deaf", "sleep_s = 60")
    child = subprocess.Popen(project.argv(*BUILD), cwd=project.folder, env={**os.environ, **project.environ}, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if "deaf now" in line:
            break
    child.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert child.poll() is None
    started = time.monotonic()
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=30)[1]
    assert child.returncode == 130 and time.monotonic() - started < 5 and "Traceback" not in said
    assert list((project.folder / ".interlock" / "store" / "work").iterdir()) == []


def test_a_key_names_the_input_that_was_read(project: StubProject) -> None:
    """A stage that never makes the same twice is made again for a step that needs its lost artifact: that step's key is of the new one."""
    (project.folder / "chain.toml").write_text(
        'output = "out"\noutputs = ["louder"]\n[[stages]]\nstage = "noise"\n\n[[stages]]\nstage = "louder"\ninputs = {source = "noise"}\n'
    )
    project.build()
    store = Store(project.folder / ".interlock" / "store")
    shutil.rmtree(store.root / "objects")
    shutil.rmtree(project.folder / "out")
    project.build()
    for action in store.actions():
        made = store.find(action["output"]["digest"])
        if made is not None and (taken := action["preimage"]["inputs"]):
            contract = json.loads((made / "dataset_contract.json").read_bytes())
            assert [ref["digest"] for ref in contract["inputs"]] == list(taken.values())
    states = {step["state"] for step in project.build()["steps"]}
    assert states == {"kept"}


@pytest.mark.parametrize("words", [(*BUILD, "--force"), ("status",), ("plan", *BUILD[1:]), ("fsck",)], ids=lambda words: words[0])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_went_away_is_no_error_of_ours(project: StubProject, words: tuple[str, ...], stream: str) -> None:
    project.build()
    reader, writer = os.pipe()
    os.close(reader)
    other = "stderr" if stream == "stdout" else "stdout"
    streams = {stream: writer, other: subprocess.PIPE}
    child = subprocess.Popen(project.argv(*words), cwd=project.folder, env={**os.environ, **project.environ}, text=True, **streams)  # type: ignore[call-overload]
    os.close(writer)
    said = "".join(filter(None, child.communicate(timeout=60)))
    assert "Traceback" not in said and "Exception ignored" not in said
    # What says nothing on the stream that is gone ends as ever.
    assert child.returncode == (141 if stream == "stdout" or words[0] == "build" else 0)
    project.build()
