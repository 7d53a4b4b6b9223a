"""A stage, and the one way to run it: admit → read inputs → work → describe → re-read → publish.

Here: what every stage shares, done once. Not here: what a stage computes (pipeline/stages), when it runs (driver/chain.py).
Runs inside the stage's own interpreter.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import interlock
from interlock import environments, fs
from interlock.contracts import io
from interlock.contracts.base import Contract, CreatedBy, Frozen, InputRef, Kind
from interlock.errors import ContractError
from interlock.voice import Voice
from pipeline.driver import keys

P = TypeVar("P", bound="Params")
C = TypeVar("C", bound=Contract)


class Params(Frozen):
    """What a person chose for a stage. `out` is the artifact directory; `toy` lifts the environment rule and marks the contract; `rejected` is where
    a candidate that its gate refuses is kept, `rejected/` beside the output by default."""

    out: Path
    toy: bool = False
    rejected: Path | None = None

    @property
    def rejected_path(self) -> Path:
        return self.rejected or self.out.parent / "rejected" / self.out.name


@dataclass(frozen=True)
class Outcome:
    """What a stage's work leaves for its contract: the fields of the body, and what it was made from."""

    body: dict[str, Any]
    inputs: tuple[InputRef, ...]
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
    """For a stage of another package: the parameters that get an artifact directory, and its kind."""


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


def run(stage: Stage[P], params: P, voice: Voice, argv: tuple[str, ...] = ()) -> Report:
    """Run `stage` here and publish its artifact. Raises an InterlockError and publishes nothing when anything is wrong."""
    started = time.monotonic()
    env = environments.environment(stage.environment)
    if not params.toy:
        environments.admit(env, stage.name, argv)
    fs.check_replaceable(params.out, lambda out: is_ours(out, stage.produces))
    with fs.workspace(params.out) as work:
        outcome = stage.work(params, work, voice)
        contract = _describe(stage, params, outcome, work, voice)
        with voice.task(f"publish {params.out.name}"):
            fs.publish(work, params.out)
    return Report(stage.name, params.out, contract, time.monotonic() - started, _peak_rss())


def is_ours(out: Path, kind: Kind) -> bool:
    """Whether `out` holds an artifact that a stage wrote and nothing else, so that replacing it loses nothing of the user's."""
    file, model = io.KINDS[kind]
    with contextlib.suppress(ContractError):
        contract = io.read_contract(out / file, model)
        return set(io.walk(out)) <= io.names(contract)
    return False


def _describe(stage: Stage[P], params: P, outcome: Outcome, work: fs.Workspace, voice: Voice) -> Contract:
    """Write the contract last, then read everything back: the producer's side of the boundary."""
    if (work.path / fs.SCRATCH).exists():
        fs.remove_tree(work.fs, work.path / fs.SCRATCH)
    file, model = io.KINDS[stage.produces]
    env = environments.environment(stage.environment)
    created = CreatedBy(
        stage=stage.name, project_version=interlock.__version__, source_digest=keys.source_digest(stage.module), environment=environments.record(env)
    )
    with digesting(work.path, voice) as progress:
        files = io.entries(work.path, progress)
    toy = params.toy or outcome.toy
    contract = model(created_by=created, inputs=outcome.inputs, files=files, toy=toy, **outcome.body).sealed()
    work.write(file, io.pretty(contract))
    return io.read_contract(work.path / file, model)


@contextlib.contextmanager
def digesting(directory: Path, voice: Voice) -> Iterator[Callable[[int], None]]:
    """Progress of hashing a directory."""
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    with voice.task(f"digest {directory.name.split(fs.PARTIAL)[0]}", size, "B") as task:
        yield task.advance


def read_input(directory: Path, model: type[C], voice: Voice) -> C:
    """The consumer's side of a boundary: contract, files and their digests. Raises ContractError."""
    io.read_contract(io.contract_path(directory, model.model_fields["kind"].default), model)
    with digesting(directory, voice) as progress:
        return io.read_artifact(directory, model, progress)


def _peak_rss() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux, bytes on macOS: getrusage(2)
