"""Builds, kills, damage and cleaning in any order, drawn by Hypothesis: the plain command always ends with the bytes that the recipe means.

What these are is said by a model that knows no file system: the rows that the stub stages make of a text. Everything is the real command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.publications import forget
from fakes.shell import Said
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from reliability.projects import BUILD, CODES, Project

from interlock.contracts import io
from interlock.errors import ContractError

pytestmark = pytest.mark.long
Score = Callable[[str, int, int], None]
CENTURIES = (0, 4102444800)  # 1970-01-01 and 2100-01-01, in seconds
REFUSED = 2
FAILED = 5
PARTS = 5  # each with its own seed, so that they can run beside each other


@dataclass(frozen=True)
class Chain:
    """What chain.toml asks for, and what must come of it."""

    text: str = "word"
    rows: int = 3

    def data(self) -> dict[str, bytes]:
        """Each of three steps writes the first half of its rows and the others, or one row as both; the next reads both."""
        rows = [f"{self.text} {number}" for number in range(self.rows)]
        for exclamation in ("", "!", "!!!"):
            rows = [row + exclamation for row in rows]
            half = max(1, len(rows) // 2)
            train, test = rows[:half], rows[half:] or rows[:1]
            rows = [*train, *test]
        return {
            f"{name}.jsonl": "".join(json.dumps({"text": row}) + "\n" for row in half).encode() for name, half in (("train", train), ("test", test))
        }


def _lines(rows: list[str]) -> bytes:
    return "".join(json.dumps({"text": row}) + "\n" for row in rows).encode()


CHAINS = st.builds(Chain, st.sampled_from(["word", "naïve", "日本", "a b", "-x"]), st.integers(1, 4))
# What stands in a way of the next build, by its author's name: each is done to one file or object, drawn by number.
HARMS = ["edit an output", "cut an output", "remove an output", "remove a file of an output", "flip an object", "remove an object",
         "remove a file of an object", "flip a note", "cut a note", "remove a note", "turn the clock"]  # fmt: skip
HARM = st.lists(st.tuples(st.sampled_from(HARMS), st.integers(0, 1 << 16)), min_size=1, max_size=3)


class Tally:
    """Steps begun, and those of them that ended as they must."""

    def __init__(self) -> None:
        self.begun = self.good = 0

    @contextlib.contextmanager
    def step(self, steps: int = 1) -> Iterator[None]:
        self.begun += steps
        yield
        self.good += steps


class Life(RuleBasedStateMachine):
    """One project. After every step the plain command is given, and must put everything right by itself."""

    def __init__(self, project: Project, tally: Tally) -> None:
        super().__init__()
        self.project, self.tally = project, tally
        self.asked = Chain()
        self.spoilt: set[str] = set()
        self.out = project.folder / "out" / "loudest"

    @initialize()
    def begin(self) -> None:
        self._write(self.asked)
        self._mended()

    @rule(asked=CHAINS, jobs=st.integers(1, 3))
    def ask_for_something_else(self, asked: Chain, jobs: int) -> None:
        with self.tally.step():
            self._write(asked)
            self._mended("--jobs", str(jobs))

    @rule(asked=CHAINS, part=st.floats(0, 1))
    def kill(self, asked: Chain, part: float) -> None:
        """At any moment of a build that goes from what lies there to something else."""
        with self.tally.step():
            before = self.asked
            self._write(asked)
            process = self.project.start()
            with contextlib.suppress(Exception):
                process.wait(0.2 + 1.5 * part)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert self.project.ends_within(5), self.project.processes()
            assert self._found() in (None, before.data(), asked.data())
            self._mended()

    @rule(harms=HARM)
    def suffer(self, harms: list[tuple[str, int]]) -> None:
        with self.tally.step(len(harms)):
            for what, number in harms:
                self._harm(what, random.Random(number))
            self._mended()

    @rule(words=st.sampled_from([("--keep", "0s"), ("--keep", "1d"), ("--max-size", "1B"), ("--max-size", "3kB")]), harms=st.just([]) | HARM)
    def clean(self, words: tuple[str, ...], harms: list[tuple[str, int]]) -> None:
        with self.tally.step(1 + len(harms)):
            for what, number in harms:
                self._harm(what, random.Random(number))
            self._said("gc", *words, codes={0})
            self._mended()

    @rule(harms=HARM)
    def check_and_repair(self, harms: list[tuple[str, int]]) -> None:
        with self.tally.step(1 + len(harms)):
            for what, number in harms:
                self._harm(what, random.Random(number))
            self._said("fsck", "--repair", codes={0})
            self._said("fsck", codes={0})
            self._mended()

    @rule()
    def go_back(self) -> None:
        with self.tally.step():
            record = self._said("rollback", str(self.out), codes={0, REFUSED, FAILED})
            found = self._found()
            assert found is not None
            assert (found == self.asked.data()) == bool(record.code), record
            self._mended()

    def teardown(self) -> None:
        forget(self.project.folder)

    def _write(self, asked: Chain) -> None:
        self.asked = asked
        self.project.write(text=asked.text, rows=asked.rows)

    def _said(self, *words: str, codes: set[int]) -> Said:
        said = self.project.run(*words)
        assert said.code in codes & CODES and "Traceback" not in said.out + said.err, (words, said)
        assert said.code == 0 or "hint: " in said.err, (words, said)
        return said

    def _mended(self, *words: str) -> None:
        """The plain command ends well, with the bytes of the model, and leaves nothing but them."""
        self.spoilt.clear()
        self._said(*BUILD, *words, codes={0})
        assert self._found() == self.asked.data()
        assert self.project.left_over() == [] and self.project.processes() == []
        assert not list(self.project.folder.glob("out/*.partial-*"))

    def _found(self) -> dict[str, bytes] | None:
        """The rows that lie in the output; None where there is none. Fails where it is not what its contract says."""
        if not self.out.exists():
            return None
        try:
            contract = io.read_artifact(self.out, io.KINDS["dataset"][1])
        except ContractError as error:
            raise AssertionError(f"an output that is no artifact: {error}") from error
        return {entry.path: (self.out / entry.path).read_bytes() for entry in contract.files}

    def _harm(self, what: str, draw: random.Random) -> None:
        verb, _, victim = what.partition(" ")
        if verb == "turn":
            if self._disowned(Path("clock.json")):
                return
            self._turn_the_clock(draw)
            return
        home = self.project.folder / ".interlock"
        notes = [path for path in home.rglob("*.json") if "objects" not in path.parts and "offers" not in path.parts]
        objects = list(self.project.store.glob("objects/*/*"))
        if victim in ("an output", "an object") and verb == "remove":
            places = [self.out] if victim == "an output" else objects
            if places and (place := draw.choice(sorted(places))).exists():
                shutil.rmtree(place)
            return
        folders = {"an output": [self.out], "an object": objects}.get(victim.removeprefix("a file of "), [])
        files = sorted(notes if victim == "a note" else (path for folder in folders for path in folder.rglob("*") if path.is_file()))
        if files and not self._disowned(file := draw.choice(files)):
            _spoil(file, verb, draw)

    def _disowned(self, file: Path) -> bool:
        """Whether damage to `file` too would leave nothing that says that the output is ours, neither its contract, nor a record and one file that
        nobody touched since: it would be a person's folder, and left alone."""
        if self.out in file.parents:
            self.spoilt.add(file.name)
        elif file.suffix == ".json":
            self.spoilt.add("record")
        contract = "dataset_contract.json"
        touched = {path.name for path in self.out.rglob("*") if path.is_file()} <= self.spoilt
        return contract in self.spoilt and ("record" in self.spoilt or touched)

    def _turn_the_clock(self, draw: random.Random) -> None:
        """Every file seems to come from another century, as after a copy or a battery's end."""
        stamp = draw.choice(CENTURIES)
        for path in self.project.folder.rglob("*"):
            if path.is_file():
                os.utime(path, (stamp, stamp))


def _spoil(file: Path, verb: str, draw: random.Random) -> None:
    data = file.read_bytes()
    if verb == "remove":
        file.unlink()
        return
    file.chmod(0o644)
    at = draw.randrange(len(data)) if data else 0
    flipped = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :] if data else b"x"
    changed = {"edit": data + b"more\n", "cut": data[:at], "flip": flipped}[verb]
    stat = file.stat()
    file.write_bytes(changed)
    if draw.random() < 0.5:  # as a disk does it: the times say nothing
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("part", range(PARTS))
def test_any_order_of_builds_kills_damage_and_cleaning(part: int, memory: Path, stub_python: Path, extent: bool, score: Score) -> None:
    tally = Tally()
    lives = iter(range(1 << 30))

    def life() -> Life:
        return Life(Project(memory / f"life-{next(lives)}", stub_python).asked_before(), tally)

    # No shrinking: a kill comes at another moment each time, and a step takes a second.
    chosen = settings(
        max_examples=3 if extent else 2,  # the first one is always the shortest
        stateful_step_count=40 if extent else 10,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(part)(life), settings=chosen)
    finally:
        score("faults", tally.good, tally.begun)
    assert tally.begun >= (50 if extent else 8)
