"""What the author of a stage runs: the tests that interlock's own stages are held to, on any stage, with a list of what holds and what does not.

Here: the checks, in order. Not here: one run of a stage under a fault (trial.py), the faults (faults.py), inputs that lie (hostile.py), options
(__main__.py). From a test: `assert not [result for result in check(candidate) if result.reasons]`.
"""

from __future__ import annotations

import errno
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.contracts import io
from interlock.contracts.base import Contract
from interlock.errors import ContractError
from pipeline.conformance import hostile
from pipeline.conformance.trial import Ended, Fault, Trial, in_child, in_fresh_interpreter
from pipeline.driver.offers import wrong_stage
from pipeline.driver.stage import Stage
from pipeline.driver.store import project_folder


@dataclass(frozen=True)
class Candidate:
    """A stage and one thing that it can do: `inputs` are artifact directories by parameter, `params` the other parameters, in JSON's types.

    points: at most so many calls of the file system are killed or failed in each check, spread evenly; None is every one.
    """

    module: str
    attribute: str = "STAGE"
    inputs: dict[str, Path] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    toy: bool = False
    points: int | None = None

    @property
    def stage(self) -> Stage[Any]:
        found: Any = importlib.import_module(self.module)
        for part in self.attribute.split("."):
            found = getattr(found, part)
        return found  # type: ignore[no-any-return]  # is_a_stage says whether it is one


@dataclass(frozen=True)
class Result:
    """One check: it holds when there are no `reasons` against it. `trials` runs of the stage were needed."""

    name: str
    trials: int
    reasons: tuple[str, ...]


def check(candidate: Candidate) -> Iterator[Result]:
    """Every check, one after the other; what the later ones need to be possible ends the list where it does not hold."""
    if wrong := wrong_stage(candidate.stage, getattr(candidate.stage, "name", "")):
        yield Result("it is a stage", 0, (wrong,))
        return
    yield Result("it is a stage", 0, ())
    with fs.workspace(project_folder() / "conformance") as work:
        bench = _Bench(candidate, work.path)
        first = bench.result("it makes an artifact", bench.makes_an_artifact)
        yield first
        if first.reasons:
            return
        yield bench.result("it makes the same bytes anywhere", bench.makes_the_same_anywhere)
        yield bench.result("it writes nowhere else and changes no input", bench.writes_nowhere_else)
        yield bench.result("killed at any call, it leaves nothing or all of it", partial(bench.survives_faults, "kill", replacing=False))
        yield bench.result("killed while replacing, it leaves the old or the new", partial(bench.survives_faults, "kill", replacing=True))
        yield bench.result("a full disk ends it in words", partial(bench.survives_faults, errno.ENOSPC, replacing=False))
        yield bench.result("a failing disk ends it in words", partial(bench.survives_faults, errno.EIO, replacing=True))
        yield bench.result("an output that cannot be written ends it in words", bench.read_only)
        if candidate.inputs:
            yield bench.result("it refuses inputs that lie", bench.refuses_hostile_inputs)


class _Bench:
    """The trials of one candidate, each in a folder of its own."""

    def __init__(self, candidate: Candidate, folder: Path) -> None:
        self._candidate, self._folder = candidate, folder
        self._stage = candidate.stage
        self._trials = 0
        self._digest = ""
        self._calls = 0
        self._libraries: tuple[str, ...] = ()
        self._patience_s = 600.0

    def result(self, name: str, run: Callable[[], list[str]]) -> Result:
        before = self._trials
        reasons = run()
        return Result(name, self._trials - before, tuple(reasons))

    # --- checks: each returns what speaks against the stage

    def makes_an_artifact(self) -> list[str]:
        folder = self._room("plain")
        ended = self._run(self._trial(folder), in_fresh_interpreter)
        if ended.digest is None:
            return [f"it did not: {ended.told}"]
        self._digest, self._calls, self._libraries = ended.digest, ended.calls, ended.libraries
        self._patience_s = max(60.0, 20 * ended.wall_s)
        contract = self._read(folder / "out")
        if isinstance(contract, str):
            return [contract]
        given = {name: io.read_any(path) for name, path in self._candidate.inputs.items()}
        named = {ref.digest for ref in contract.inputs}
        found = [f"its contract does not name input `{name}`" for name, one in given.items() if one.digest not in named]
        if any(one.toy for one in given.values()) and not contract.toy:
            found.append("an input is a toy, and the contract does not say so")
        return found

    def makes_the_same_anywhere(self) -> list[str]:
        found = []
        for name, umask, zone in (("another place", 0o077, "Asia/Kathmandu"), ("ein anderer Ort, später", 0o000, "America/St_Johns")):
            folder = self._room(name)
            ended = self._run(replace(self._trial(folder), umask=umask, environ={"TZ": zone, "LC_ALL": "C"}), in_fresh_interpreter)
            if ended.digest != self._digest:
                found.append(f"in `{name}`, umask {umask:03o}, time zone {zone}: {ended.told if ended.digest is None else self._difference(folder)}")
        return found

    def writes_nowhere_else(self) -> list[str]:
        folder = self._room("tidy")
        before = {name: _tree(path) for name, path in self._inputs(folder).items()}
        ended = self._run(replace(self._trial(folder), watched=True))
        found = [f"it wrote `{path}`" for path in ended.outside]
        found += [f"it changed input `{name}`" for name, tree in before.items() if _tree(folder / "inputs" / name) != tree]
        left = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.relative_to(folder).parts[0] in ("here", "home", "tmp")]
        return found + [f"it left `{path.relative_to(folder)}`" for path in left[:8]] + ([] if ended.digest else [ended.told])

    def survives_faults(self, kind: str | int, *, replacing: bool) -> list[str]:
        found = []
        for point in self._points():
            folder = self._room(f"{kind}-{replacing}-{point}")
            if replacing:
                fs.Workspace(folder, fs.Fs()).copy(self._folder / "plain" / "out", "out")
            ended = self._run(replace(self._trial(folder), fault=Fault(kind, point)))
            where = f"call {point} of {self._calls}"
            if kind != "kill" and ended.crash:
                found.append(f"{where}: {ended.told}")
            found += [f"{where}: {wrong}" for wrong in self._state(folder, may_be_absent=not replacing, done=ended.digest is not None)]
            again = self._run(self._trial(folder))
            if again.digest != self._digest:
                found.append(f"{where}: the same again does not succeed: {again.told}")
            if left := [path.name for path in folder.iterdir() if fs.PARTIAL in path.name]:
                found.append(f"{where}: after the next run there is still `{left[0]}`")
            fs.remove_tree(fs.Fs(), folder)
        return found

    def read_only(self) -> list[str]:
        folder = self._room("read-only")
        ended = self._run(replace(self._trial(folder), fault=Fault(errno.EROFS, 1, lasting=True)))
        return [ended.told] if ended.digest is not None or ended.crash else self._state(folder, may_be_absent=True, done=False)

    def refuses_hostile_inputs(self) -> list[str]:
        found = []
        for name in self._candidate.inputs:
            for lie in hostile.LIES:
                folder = self._room(f"{name}-{lie}")
                directory = self._inputs(folder)[name]
                if not hostile.tell(lie, directory):
                    continue
                ended = self._run(self._trial(folder))
                if ended.digest is not None:
                    found.append(f"input `{name}` with {lie} was taken")
                elif ended.crash or ended.exit_code not in (2, 3):
                    found.append(f"input `{name}` with {lie}: {ended.told}; refuse it with exit code 3")
                elif (folder / "out").exists():
                    found.append(f"input `{name}` with {lie} was refused, and something was published")
                fs.remove_tree(fs.Fs(), folder)
        return found

    # --- parts

    def _room(self, name: str) -> Path:
        """A folder for trials: `inputs`, copies; `here`, `home` and `tmp`, where nothing may be left; `out` is made by the stage."""
        folder = self._folder / name
        for part in ("inputs", "here", "home", "tmp"):
            fs.make_parents(fs.Fs(), folder / part)
        for parameter, path in self._candidate.inputs.items():
            fs.Workspace(folder / "inputs", fs.Fs()).copy(path.absolute(), parameter)
        return folder

    def _inputs(self, folder: Path) -> dict[str, Path]:
        return {name: folder / "inputs" / name for name in self._candidate.inputs}

    def _trial(self, folder: Path) -> Trial:
        directories = {name: str(path) for name, path in self._inputs(folder).items()}
        own = {"out": str(folder / "out"), "rejected": str(folder / "rejected"), "toy": self._candidate.toy}
        return Trial(
            self._candidate.module, self._candidate.attribute, {**self._candidate.params, **directories, **own}, folder, loaded=self._libraries
        )

    def _run(self, trial: Trial, how: Callable[[Trial, float], Ended] = in_child) -> Ended:
        self._trials += 1
        return how(trial, self._patience_s)

    def _points(self) -> list[int]:
        calls, limit = self._calls, self._candidate.points
        if limit is None or calls <= limit:
            return list(range(1, calls + 1))
        return sorted({1 + round(step * (calls - 1) / (limit - 1)) for step in range(limit)}) if limit > 1 else [calls]

    def _read(self, out: Path) -> Contract | str:
        try:
            return io.read_artifact(out, io.KINDS[self._stage.produces][1])
        except ContractError as error:
            return f"what it published is not sound: {error.problem}"

    def _state(self, folder: Path, *, may_be_absent: bool, done: bool) -> list[str]:
        """What is wrong with the output after a fault."""
        out = folder / "out"
        if not out.exists():
            return [] if may_be_absent and not done else ["the output is gone" if not may_be_absent else "it said that it was done, and made nothing"]
        contract = self._read(out)
        if isinstance(contract, str):
            return [contract]
        return [] if contract.digest == self._digest else ["it published another artifact than without the fault"]

    def _difference(self, folder: Path) -> str:
        one, other = self._read(self._folder / "plain" / "out"), self._read(folder / "out")
        if isinstance(one, str) or isinstance(other, str):
            return "it is not sound"
        before, after = ({entry.path: entry.sha256 for entry in each.files} for each in (one, other))
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        return f"other bytes in {', '.join(names)}" if names else "another contract for the same files"


def _tree(directory: Path) -> dict[str, tuple[int, str]]:
    return {name: ((directory / name).stat().st_mode, io.sha256_file(directory / name)) for name in io.walk(directory)}
