"""A gate: a claim about an interval, that ends as pass, fail or inconclusive.

Here: from figures and claims to verdicts. Not here: which figures there are (scoring), the thresholds (a suite's, a recipe's, or the command line's).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from eval.statistics.intervals import Interval
from eval.suite import Claim
from interlock.contracts.evaluation import GateResult, Verdict
from interlock.errors import UsageError

Method = Literal["wilson", "exact mcnemar", "paired bootstrap", "cluster bootstrap", "count"]


@dataclass(frozen=True)
class Figure:
    """A metric that a gate may be about. `interval` is None where no item was eligible; `missed`: ids of the items that count against it."""

    interval: Interval | None
    n: int
    method: Method
    missed: tuple[str, ...] = ()


def check_known(known: Collection[str], wanted: Collection[str]) -> None:
    """Before anything is asked. Raises UsageError for a metric that a suite does not have."""
    if unknown := sorted(set(wanted) - set(known)):
        raise UsageError(f"there is no gate `{unknown[0]}`", remedy=f"there are {', '.join(known)}")


def judge(figures: Mapping[str, Figure], claims: Mapping[str, Claim], confidence: float, least: int = 1) -> tuple[GateResult, ...]:
    """One result for each claim, in the order of names; `check_known` has seen these. Of fewer than `least` eligible items nothing is said."""
    return tuple(_result(name, figures[name], claim, confidence, least) for name, claim in sorted(claims.items()))


def verdict(gates: Sequence[GateResult]) -> Verdict:
    """Of all gates together; inconclusive where nothing was claimed."""
    if any(gate.verdict == "fail" for gate in gates):
        return "fail"
    return "pass" if gates and all(gate.verdict == "pass" or gate.waived for gate in gates) else "inconclusive"


def stops(gate: GateResult) -> bool:
    """Whether nothing is published because of it."""
    return gate.verdict != "pass" and gate.waived is None


def told(gate: GateResult, missed: Sequence[str]) -> str:
    """A gate that did not pass, for people."""
    if gate.measured is None or gate.low is None or gate.high is None:
        return f"{gate.name}: {f'only {gate.n} items were eligible' if gate.n else 'no item was eligible'}"
    place = f"{gate.name}: {gate.measured:.4g} of {gate.n}, {gate.confidence:.0%} interval {gate.low:.4g} to {gate.high:.4g}, {gate.claim}"
    why = f"{place} {gate.threshold:g} ({gate.verdict})"
    if gate.measured == 1 and (more := enough(gate)):
        return f"{why}: {more}"
    return f"{why}: missed {', '.join(missed[:8])}{f' and {len(missed) - 8} more' if len(missed) > 8 else ''}" if missed else why


def enough(gate: GateResult) -> str:
    """How many items would show what these do not; empty where no number follows from the gate."""
    if gate.verdict != "inconclusive" or gate.claim != "at least" or gate.measured is None or not gate.threshold < gate.measured <= 1:
        return ""
    if gate.measured == 1:
        return f"{needed(gate.threshold, gate.confidence)} items without a miss would show it"
    return f"{needed(gate.threshold, gate.confidence, gate.measured)} items at this rate would show it" if gate.method == "wilson" else ""


def needed(threshold: float, confidence: float, rate: float = 1.0) -> int:
    """Of how many items a rate has this lower bound, by Wilson's interval: n ≥ z² t (1 - t) / (rate - t)²."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    # without the last bits of the division, which would ask for one more
    return math.ceil(z * z * threshold * (1 - threshold) / (rate - threshold) ** 2 * (1 - 1e-12)) if threshold < rate else 0


def _result(name: str, figure: Figure, claim: Claim, confidence: float, least: int) -> GateResult:
    measured, low, high = figure.interval if figure.interval and figure.n >= least else (None, None, None)
    ends: Verdict = "inconclusive"
    if measured is not None and low is not None and high is not None:
        above = claim.at_least is not None
        shown = low >= claim.threshold if above else high <= claim.threshold
        met = measured >= claim.threshold if above else measured <= claim.threshold
        ends = "pass" if shown else "inconclusive" if met else "fail"
    return GateResult(
        name=name, metric=name, claim="at least" if claim.at_least is not None else "at most", threshold=claim.threshold, measured=measured, low=low,
        high=high, confidence=confidence, method=figure.method, n=figure.n, verdict=ends, waived=claim.waived if ends == "inconclusive" else None,
    )  # fmt: skip
