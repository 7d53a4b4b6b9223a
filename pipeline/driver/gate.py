"""Gates of other packages: a check of an artifact before it is published, and what becomes of an artifact that one refuses.

Here: the `Gate` that an author writes, asking one, keeping a refused candidate with its evidence. Not here: finding gates (registry.py), interlock's
own gate of packages (pipeline/gates).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from interlock import fs
from interlock.contracts import io
from interlock.contracts.base import Contract, Finding, Frozen, GatePassed, Kind
from interlock.errors import GateFailed, InterlockError, StageFailed
from interlock.voice import Voice
from pipeline.driver import index
from pipeline.gates.rejected import EVIDENCE, Rejection

P = TypeVar("P", bound=Frozen)


@dataclass(frozen=True)
class Subject:
    """What a gate is asked about: the directory of an artifact that is finished and not published, and its contract. Both are to be read only."""

    directory: Path
    contract: Contract


@dataclass(frozen=True)
class Gate(Generic[P]):
    """One check. `look` says what it found, each finding passed or not; one that did not pass refuses the artifact. It runs in the environment of the
    stage whose artifact it is asked about, must find at least one thing, and must find the same whenever it is asked the same."""

    name: str
    kind: Kind
    params: type[P]
    look: Callable[[Subject, P, Voice], Sequence[Finding]]


@dataclass(frozen=True)
class Asked:
    """A gate as one recipe asks it."""

    gate: Gate[Any]
    params: Frozen
    distribution: str


@dataclass(frozen=True)
class Candidate:
    """A finished artifact in its workspace; `rejected` is where it is kept if a gate refuses it, `again` the command that makes it again."""

    stage: str
    work: fs.Workspace
    contract: Contract
    rejected: Path
    again: str | None = None


def ask(gates: Sequence[Asked], candidate: Candidate, voice: Voice) -> tuple[GatePassed, ...]:
    """Ask every gate. Raises GateFailed where one refuses, with all that was found kept beside the candidate; StageFailed where one is broken."""
    said = [(asked, _findings(asked, candidate, voice)) for asked in gates]
    refused = [(asked, finding) for asked, findings in said for finding in findings if not finding.passed]
    if refused:
        kept = _keep(candidate, said)
        raise GateFailed(
            f"{_names(asked for asked, _ in refused)} the {candidate.contract.kind} of stage `{candidate.stage}`",
            measured="; ".join(_measured(finding) for _, finding in refused[:4]),
            threshold="; ".join(_number(finding.threshold) for _, finding in refused[:4]),
            remedy=f"nothing was published; the {candidate.contract.kind} and what was found are in `{kept}`",
        )
    return tuple(GatePassed(gate=asked.gate.name, distribution=asked.distribution, findings=findings) for asked, findings in said)


def _measured(finding: Finding) -> str:
    return finding.text if finding.value is None else f"{finding.text}: {_number(finding.value)}"


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:g}"


def _names(refusing: Any) -> str:
    names = list(dict.fromkeys(f"`{asked.gate.name}`" for asked in refusing))
    return f"gate {names[0]} refuses" if len(names) == 1 else f"gates {', '.join(names)} refuse"


def _findings(asked: Asked, candidate: Candidate, voice: Voice) -> tuple[Finding, ...]:
    name, directory = asked.gate.name, candidate.work.path

    def bug(how: str) -> StageFailed:
        return StageFailed(f"gate `{name}` {how}", remedy=f"this is a bug of {asked.distribution}; nothing was published")

    before = _stats(directory)
    try:
        with voice.task(f"gate {name}"):
            findings = tuple(asked.gate.look(Subject(directory, candidate.contract), asked.params, voice))
    except (InterlockError, MemoryError):
        raise
    except ValidationError as error:  # a finding without text, or with a number that is none
        raise bug(f"found what cannot be written down: {error.errors(include_url=False)[0]['msg']}") from error
    except Exception as error:
        raise bug(f"failed: {type(error).__name__}: {error}") from error
    if not findings or not all(isinstance(finding, Finding) for finding in findings):
        raise bug("found nothing: that passes nothing" if not findings else f"found {type(findings[0]).__name__} for a Finding")
    if _stats(directory) != before:
        raise bug(f"changed the {candidate.contract.kind} that it was asked about")
    return findings


def _stats(directory: Path) -> dict[str, index.Stat]:
    return {name: index.stat_of(directory / name) for name in io.walk(directory)}


def _keep(candidate: Candidate, said: Sequence[tuple[Asked, tuple[Finding, ...]]]) -> Path:
    """The candidate with its contract, and everything that the gates found."""
    why = Rejection(
        findings=tuple(f"{asked.gate.name}: {_measured(finding)}" for asked, findings in said for finding in findings if not finding.passed),
        command=candidate.again,
        kind=candidate.contract.kind,
        made_from=tuple(ref.digest for ref in candidate.contract.inputs),
        asked={asked.gate.name: findings for asked, findings in said},
    )
    kept = candidate.rejected
    with fs.workspace(kept, candidate.work.fs) as rejected:
        for child in sorted(candidate.work.path.iterdir()):
            rejected.copy(child, child.name)
        rejected.write(EVIDENCE, io.pretty(why))
        fs.publish(rejected, kept)
    return kept
