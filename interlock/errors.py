"""The error tree: every mistake a user can make, its exit code, and what to do about it.

Here: classes that carry facts. Not here: how they are shown (voice.py). Anything raised outside this tree is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

INTERRUPTED = 130


class InterlockError(Exception):
    """A problem with a remedy. `problem` is one sentence, lower case, no full stop; `remedy` says what to do next."""

    exit_code = 5
    title = "error"

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def lines(self) -> list[str]:
        """The message as plain lines, without the remedy."""
        return [f"{self.title}: {self.problem}"]

    def as_dict(self) -> dict[str, object]:
        return {"error": self.title, "exit_code": self.exit_code, "problem": self.problem, "remedy": self.remedy}


class UsageError(InterlockError):
    """The command line or a value in it is wrong."""

    exit_code = 2
    title = "usage"


@dataclass(frozen=True)
class Violation:
    """One thing wrong in one place. `where` is a JSON path (`/outputs/1/dtype`), a header field or a byte offset, or empty for the whole file."""

    file: str
    where: str
    expected: str
    found: str

    def lines(self) -> list[str]:
        place = f"{self.file} at {self.where}" if self.where else self.file
        return [place, f"  expected {self.expected}, found {self.found}"]


class ContractError(InterlockError):
    """A file is not what it must be: a contract, an artifact against its contract, or a foreign file. Reports all violations at once."""

    exit_code = 3
    title = "contract"

    def __init__(self, *violations: Violation, remedy: str) -> None:
        first = violations[0]
        super().__init__(f"{first.file}: expected {first.expected}, found {first.found}", remedy=remedy)
        self.violations: Sequence[Violation] = violations

    def lines(self) -> list[str]:
        shown = [line for violation in self.violations[:20] for line in violation.lines()]
        if len(self.violations) > 20:
            shown.append(f"… and {len(self.violations) - 20} more")
        return [f"{self.title}: {shown[0]}", *shown[1:]]

    def as_dict(self) -> dict[str, object]:
        places = [{"file": v.file, "where": v.where, "expected": v.expected, "found": v.found} for v in self.violations]
        return {**super().as_dict(), "violations": places}


def refuse(file: object, where: str, *, expected: str, found: object, remedy: str) -> ContractError:
    """A ContractError with one violation: the common case of a reader that stops at the first impossible field."""
    return ContractError(Violation(str(file), where, expected, str(found)), remedy=remedy)


class EnvironmentRefused(InterlockError):
    """The running interpreter or its packages are not those that the stage's environment names."""

    exit_code = 4
    title = "environment"

    def __init__(self, problem: str, *, required: str, running: str, remedy: str) -> None:
        super().__init__(problem, remedy=remedy)
        self.required = required
        self.running = running

    def lines(self) -> list[str]:
        return [*super().lines(), f"  required {self.required}", f"  running  {self.running}"]

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "required": self.required, "running": self.running}


class StageFailed(InterlockError):
    """The work itself could not be done: no space, a tool that failed, a killed child."""

    exit_code = 5
    title = "failed"


class GateFailed(InterlockError):
    """A measured value is outside its threshold: nothing was published."""

    exit_code = 6
    title = "gate"

    def __init__(self, problem: str, *, measured: str, threshold: str, remedy: str) -> None:
        super().__init__(problem, remedy=remedy)
        self.measured = measured
        self.threshold = threshold

    def lines(self) -> list[str]:
        return [*super().lines(), f"  measured {self.measured}, threshold {self.threshold}"]

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "measured": self.measured, "threshold": self.threshold}


def from_dict(document: dict[str, Any]) -> InterlockError:
    """The error that another process told with `as_dict`. A document that is none becomes a StageFailed that shows it."""
    try:
        problem, remedy = str(document["problem"]), str(document["remedy"])
        kind = document["error"]
        if kind == ContractError.title:
            return ContractError(*(Violation(**place) for place in document["violations"]), remedy=remedy)
        if kind == EnvironmentRefused.title:
            return EnvironmentRefused(problem, required=document["required"], running=document["running"], remedy=remedy)
        if kind == GateFailed.title:
            return GateFailed(problem, measured=document["measured"], threshold=document["threshold"], remedy=remedy)
        return (UsageError if kind == UsageError.title else StageFailed)(problem, remedy=remedy)
    except (KeyError, TypeError, IndexError):
        return StageFailed(f"a process ended with words of another form: {str(document)[:200]}", remedy="see its log")
