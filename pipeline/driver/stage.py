"""A stage, and the one way to run it: admit → read inputs → work → describe → re-read → ask gates → publish.

Here: what every stage shares, done once. Not here: what a stage computes (pipeline/stages, other packages), gates of other packages (gate.py),
when it runs (build.py).
Runs inside the stage's own interpreter.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

import interlock
from interlock import environments, fs
from interlock.contracts import io
from interlock.contracts.base import Contract, CreatedBy, Frozen, GatePassed, InputRef, Kind
from interlock.errors import ContractError, StageFailed
from interlock.producers import check_producer
from interlock.voice import Voice
from pipeline.driver import index, keys
from pipeline.driver.gate import Asked, Candidate, ask

P = TypeVar("P", bound="Params")
C = TypeVar("C", bound=Contract)


class Params(Frozen):
    """What a person chose for a stage. `out` is the artifact directory; `toy` lifts the environment rule and marks the contract; `rejected` is where
    a candidate that its gate refuses is kept, `rejected/` beside the output by default; `again` is the command that makes it again, where a build
    runs the stage."""

    out: Path
    toy: bool = False
    rejected: Path | None = None
    again: str | None = None

    @property
    def rejected_path(self) -> Path:
        return self.rejected or self.out.parent / "rejected" / self.out.name


@dataclass(frozen=True)
class Outcome:
    """What a stage's work leaves for its contract: the fields of the body, and what it was made from beside the stage's declared inputs."""

    body: dict[str, Any]
    inputs: tuple[InputRef, ...] = ()
    toy: bool = False


@dataclass(frozen=True)
class Stage(Generic[P]):
    """One step: declared environment, parameters, kind of output, and the work itself."""

    name: str
    environment: str
    produces: Kind
    params: type[P]
    work: Callable[[P, fs.Workspace, Voice], Outcome]
    module: str
    """The module whose import closure is the stage's source."""
    inputs: Mapping[str, Kind] = field(default_factory=dict)
    """For a stage of another package: the parameters that get an artifact directory, and its kind. They are read and proven before the work, named
    in the contract, and must be afterwards what they were; a toy among them makes the output one."""
    reads: tuple[str, ...] = ()
    """For a stage of another package: the parameters that name a file or folder from outside, whose bytes the step's key then has."""


@dataclass(frozen=True)
class Report:
    """What a finished stage says of itself beside its contract: it varies from run to run, so it is not in the contract."""

    stage: str
    out: Path
    contract: Contract
    wall_s: float
    peak_rss_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "out": str(self.out),
            "wall_s": round(self.wall_s, 3),
            "peak_rss_bytes": self.peak_rss_bytes,
            "contract": self.contract.model_dump(mode="json"),
        }


def run(
    stage: Stage[P],
    params: P,
    voice: Voice,
    argv: tuple[str, ...] = (),
    *,
    gates: Sequence[Asked] = (),
    source: str | None = None,
    entered: environments.Entered = environments.DIRECTLY,
    files: fs.Fs | None = None,
) -> Report:
    """Run `stage` here and publish its artifact. Raises an InterlockError and publishes nothing when anything is wrong.

    gates: what is asked about the artifact before it is published; source: the digest of the stage's source, computed here where it is not known;
    entered: how this process was started.
    """
    started = time.monotonic()
    env = environments.environment(stage.environment)
    if not params.toy:
        environments.admit(env, stage.name, argv)
    fs.check_replaceable(params.out, lambda out: is_ours(out, stage.produces))
    given = {name: read_input(getattr(params, name), io.KINDS[kind][1], voice, toy=params.toy) for name, kind in stage.inputs.items()}
    with fs.workspace(params.out, files) as work:
        outcome = _work(stage, params, work, voice)
        outcome = Outcome(
            outcome.body,
            (*(InputRef(kind=one.kind, digest=one.digest) for one in given.values()), *outcome.inputs),
            outcome.toy or params.toy or any(one.toy for one in given.values()),
        )
        maker = CreatedBy(
            stage=stage.name,
            project_version=interlock.__version__,
            source_digest=source or keys.source_digest(stage.module),
            environment=environments.record(env, entered),
        )
        contract = _describe(stage, outcome, maker, work, voice)
        if gates:
            passed = ask(gates, Candidate(stage.name, work, contract, params.rejected_path, params.again), voice)
            contract = _describe(stage, outcome, maker, work, voice, passed)
        with voice.task(f"publish {params.out.name}"):
            fs.publish(work, params.out)
    return Report(stage.name, params.out, contract, time.monotonic() - started, peak_rss())


def _work(stage: Stage[P], params: P, work: fs.Workspace, voice: Voice) -> Outcome:
    """The stage's own work, and the proof that it kept to its workspace as far as that can be seen from here. Raises StageFailed."""
    before = {name: _stats(getattr(params, name)) for name in stage.inputs}
    outcome = stage.work(params, work, voice)
    for name, stats in before.items():
        if _stats(getattr(params, name)) != stats:
            raise StageFailed(
                f"stage `{stage.name}` changed its input `{name}`", remedy="a stage reads its inputs and writes into its workspace only"
            )
    if params.out.is_dir() and any(params.out.iterdir()) and not is_ours(params.out, stage.produces):
        raise StageFailed(
            f"files came into `{params.out}` while stage `{stage.name}` ran", remedy="a stage writes into its workspace, not into `out`"
        )
    if not isinstance(outcome, Outcome):
        raise StageFailed(f"the work of stage `{stage.name}` returned {type(outcome).__name__}", remedy="return pipeline.driver.stage.Outcome")
    return outcome


def _stats(directory: Path) -> dict[str, index.Stat]:
    return {name: index.stat_of(directory / name) for name in io.walk(directory)}


def is_ours(out: Path, kind: Kind) -> bool:
    """Whether `out` holds an artifact that a stage wrote and nothing else, so that replacing it loses nothing of the user's."""
    file, model = io.KINDS[kind]
    with contextlib.suppress(ContractError):
        contract = io.read_contract(out / file, model)
        return set(io.walk(out)) <= io.names(contract)
    return False


def _describe(stage: Stage[P], outcome: Outcome, maker: CreatedBy, work: fs.Workspace, voice: Voice, passed: tuple[GatePassed, ...] = ()) -> Contract:
    """Write the contract last, then read everything back: the producer's side of the boundary. Raises StageFailed for what no contract can say."""
    if (work.path / fs.SCRATCH).exists():
        fs.remove_tree(work.fs, work.path / fs.SCRATCH)
    file, model = io.KINDS[stage.produces]
    if passed:  # said after the gates have seen it
        work.fs.unlink(work.path / file)
    try:
        with digesting(work.path, voice) as progress:
            files = io.entries(work.path, progress)
        contract = model(created_by=maker, inputs=outcome.inputs, files=files, toy=outcome.toy, gates_passed=passed, **outcome.body).sealed()
    except (ValidationError, TypeError) as error:
        raise StageFailed(f"stage `{stage.name}` made no {stage.produces}: {_told(error)}", remedy="this is a bug of the stage") from None
    work.write(file, io.pretty(contract))
    if wrong := _misplaced(work.path, contract):
        raise StageFailed(f"stage `{stage.name}` left {wrong}", remedy="this is a bug of the stage: leave only files that its contract can list")
    return io.read_contract(work.path / file, model)


def _told(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    places = [f"{'/'.join(str(part) for part in item['loc']) or 'the whole'}: {item['msg']}" for item in error.errors(include_url=False)]
    return "; ".join(places[:4])


def _misplaced(directory: Path, contract: Contract) -> str:
    """What in a finished workspace no reader would accept; empty where there is nothing."""
    present = list(io.walk(directory))
    if extra := sorted(set(present) - io.names(contract)):
        return f"`{extra[0]}`, a contract that belongs to another kind"
    folded = [name.casefold() for name in present]
    if twins := [name for name in present if folded.count(name.casefold()) > 1]:
        return f"`{twins[0]}` and `{twins[1]}`, which are one file where case does not count"
    return ""


@contextlib.contextmanager
def digesting(directory: Path, voice: Voice) -> Iterator[Callable[[int], None]]:
    """Progress of hashing a directory."""
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    name = directory.name.split(fs.PARTIAL)[0]
    shown = name[:16] if len(name) == 64 else name  # an object of the store is called by its digest
    with voice.task(f"digest {shown}", size, "B") as task:
        yield task.advance


def read_input(directory: Path, model: type[C], voice: Voice, *, toy: bool = False) -> C:
    """The consumer's side of a boundary: contract, files and their digests, and who made it. Raises ContractError and EnvironmentRefused.

    toy: whether what is made of it will be one; then anybody may have made it.
    """
    file = io.contract_path(directory, model.model_fields["kind"].default)
    contract = io.read_contract(file, model)
    if not toy:
        check_producer(file, contract)
    return read_whole(directory, model, voice)


def read_whole(directory: Path, model: type[C], voice: Voice) -> C:
    """A contract and the proof of its files, whoever made them. Raises ContractError."""
    with digesting(directory, voice) as progress:
        return io.read_artifact(directory, model, progress)


def peak_rss() -> int:
    """The most bytes of memory that this process has had at a time."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux, bytes on macOS: getrusage(2)
