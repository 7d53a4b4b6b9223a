"""Two evaluations of the same items: what got worse, what did not, and what so many items cannot show.

Here: paired tests and intervals of every score, corrected for how many there are, and the items that flipped. Not here: formulas (statistics), whose
evaluations they are (pipeline/verbs/baseline).
A score is worse if its one-sided test says so after Holm's correction: of comparisons of equal models at most a share of 1 - confidence finds any. It
is no worse if the whole interval of the difference stays above minus the margin (non-inferiority). Anything else is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval.figures import Row
from eval.statistics import clusters, paired
from eval.statistics.intervals import Interval

# Numbers that say how good an answer is, and such that say what it takes. Others have no better or worse.
MORE_IS_BETTER = ("integration_f1_lax", "integration_f1_strict")
LESS_IS_BETTER = ("ces_tokens", "generated_tokens", "latent_passes", "text_passes", "tokens", "tokens_without")

Verdict = Literal["worse", "no worse", "better", "open"]


@dataclass(frozen=True)
class Compared:
    """One score: means before and now, and the interval of the improvement (of a number, relative to what was before; more is better).

    probability: of so bad a change by chance, and adjusted for how many scores there are; resolvable: the least margin that so many items can show;
    lost, gained: items whose truth flipped.
    """

    score: str
    n: int
    before: float
    now: float
    change: Interval
    probability: float
    adjusted: float
    resolvable: float | None
    verdict: Verdict
    lost: tuple[str, ...] = ()
    gained: tuple[str, ...] = ()


def compare(now: Sequence[Row], before: Sequence[Row], confidence: float, margin: float) -> list[Compared]:
    """Every score that both evaluations have and that can be better or worse, over the items that have it in both. Rows are matched by id."""
    old = {row["id"]: row for row in before}
    pairs = [(row, old[row["id"]]) for row in now if row["id"] in old]
    names = list(dict.fromkeys(name for row, _ in pairs for name in row["scores"]))
    found = [one for name in names if (one := _compared(name, pairs, confidence))]
    adjusted = paired.holm({one["score"]: one["probability"] for one in found})
    return [Compared(**one, adjusted=adjusted[one["score"]], verdict=_verdict(one, adjusted[one["score"]], confidence, margin)) for one in found]


def _verdict(one: Mapping[str, Any], adjusted: float, confidence: float, margin: float) -> Verdict:
    low = one["change"].low
    if adjusted <= 1 - confidence:
        return "worse"
    return "better" if low > 0 else "no worse" if low >= -margin else "open"


def _compared(name: str, pairs: Sequence[tuple[Row, Row]], confidence: float) -> dict[str, Any] | None:
    """None where there is nothing to compare."""
    chosen = [(row, row["scores"][name], old["scores"][name], row["id"]) for row, old in pairs if _has(row, name) and _has(old, name)]
    if not chosen:
        return None
    values = [(now, before) for _, now, before, _ in chosen]
    if all(isinstance(one, bool) for pair in values for one in pair):
        return _truths(name, chosen, confidence)
    if name in MORE_IS_BETTER:
        return _numbers(name, chosen, 1.0, confidence)
    return _numbers(name, chosen, -1.0, confidence) if name in LESS_IS_BETTER else None


def _has(row: Row, name: str) -> bool:
    return row["scores"].get(name) is not None


def _truths(name: str, chosen: Sequence[tuple[Row, Any, Any, str]], confidence: float) -> dict[str, Any]:
    n = len(chosen)
    lost = tuple(item for _, now, before, item in chosen if before and not now)
    gained = tuple(item for _, now, before, item in chosen if now and not before)
    now_, before_ = [bool(now) for _, now, _, _ in chosen], [bool(before) for _, _, before, _ in chosen]
    return {
        "score": name,
        "n": n,
        "before": sum(before_) / n,
        "now": sum(now_) / n,
        "change": paired.difference(len(gained), len(lost), n, confidence),
        "probability": paired.mcnemar(before_, now_),
        "resolvable": paired.resolvable(n, confidence),
        "lost": lost,
        "gained": gained,
    }


def _numbers(name: str, chosen: Sequence[tuple[Row, Any, Any, str]], sign: float, confidence: float) -> dict[str, Any]:
    """Differences over the mean of before, `sign` 1 where more is better. Clusters are resampled as in figures."""
    n = len(chosen)
    before = sum(float(old) for _, _, old, _ in chosen) / n
    scale = abs(before) or 1.0
    better = [sign * (float(new) - float(old)) / scale for _, new, old, _ in chosen]
    names = [row.get("cluster") or f"item {item}" for row, _, _, item in chosen]
    measured = sum(better) / n
    low, high = clusters.ratio_interval(names, better, [1.0] * n, confidence)
    return {
        "score": name,
        "n": n,
        "before": before,
        "now": sum(float(new) for _, new, _, _ in chosen) / n,
        "change": Interval(measured, min(low, measured), max(high, measured)),
        "probability": paired.flips(better),
        "resolvable": None,
    }
