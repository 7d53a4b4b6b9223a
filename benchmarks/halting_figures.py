"""Every figure of a halt head: on fresh answers, beside other rules, by family, and on families that it was not fitted on.

Here: putting them together. Not here: the table (halting.py), the rules (halting_rules.py), the arithmetic (pipeline/halting).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import halting_rules
from eval.statistics.clusters import ratio_interval
from eval.statistics.probabilities import auc, reliability
from interlock.voice import for_terminal
from pipeline.halting import head, recipe
from pipeline.halting.asking import open_checkpoint
from pipeline.halting.dialogues import FAMILIES, dialogues
from pipeline.halting.fit import Linear, Scores, head_on, out_of_fold, platt
from pipeline.halting.shipped import find
from pipeline.halting.threshold import Stop, choose, share_saved, stops
from pipeline.halting.traces import Trace, traces


def measure(checkpoint: Path, name: str, answers: Path, threads: int, *, unknown: bool) -> dict[str, Any]:
    """Collect what is not there yet, and judge a head. Raises ContractError for one of other weights."""
    torch.set_num_threads(threads)
    voice = for_terminal()
    read = head.read(find(name))
    asked = open_checkpoint(checkpoint, voice)
    head.check_backbone(find(name), read, asked.model.student.state_dict())
    development = traces(asked.answers(dialogues("development"), answers / "development", voice))
    fresh = traces(asked.answers(dialogues("fresh"), answers / "fresh", voice))
    with voice.task("judge the head"):
        return {"name": name, **report(read, development, fresh, unknown=unknown)}


def report(read: head.Head, development: Sequence[Trace], fresh: Sequence[Trace], *, unknown: bool) -> dict[str, Any]:
    """All figures. `development` is used for the thresholds of other rules and for heads without one family; the head's own is in its file."""
    scores, threshold = _scores(read, fresh)
    done = stops(fresh, scores, threshold)
    z, y = recipe.flat(fresh, scores)
    return {
        "head": {**read.facts.model_dump(mode="json", exclude={"evidence", "knows"})},
        "development": read.facts.evidence,
        "fresh": recipe.evidence(fresh, scores, threshold),
        "ended": sum(trace.answer.ended for trace in fresh) / len(fresh),
        "lost": sum(stop.lost for stop in done),
        "reliability": reliability(1 / (1 + np.exp(-z)), y),
        "rules": _rules(development, fresh, done),
        "families": {family: _family(family, fresh, done) for family in FAMILIES},
        "unknown": {family: _unknown(family, development, read.facts.l2) for family in FAMILIES} if unknown else {},
    }


def _scores(read: head.Head, some: Sequence[Trace]) -> tuple[Scores, float]:
    """Log-odds of each place, and the head's own threshold in log-odds."""
    weight, bias = (read.weight[1] - read.weight[0]).double().numpy(), float(read.bias[1] - read.bias[0])
    return Linear(weight, bias).scores(some), float(np.log(read.facts.threshold / (1 - read.facts.threshold)))


def _rules(development: Sequence[Trace], fresh: Sequence[Trace], head_done: Sequence[Stop]) -> dict[str, Any]:
    scored = {name: (halting_rules.single(name, development), halting_rules.single(name, fresh)) for name in halting_rules.SINGLE}
    scored["logistic regression on six scalars"] = halting_rules.six(development, fresh)
    return {name: _rule(fresh, choose(development, inside, recipe.MOST_CUT), outside, head_done) for name, (inside, outside) in scored.items()}


def _rule(fresh: Sequence[Trace], threshold: float, scores: Scores, head_done: Sequence[Stop]) -> dict[str, Any]:
    """`gain`: interval of what the head saves more on the same answers, as a share of the tokens after completion."""
    done = stops(fresh, scores, threshold)
    more = [mine.saved - theirs.saved for mine, theirs in zip(head_done, done, strict=True)]
    return {
        "answers": len(fresh),
        "cut": sum(stop.cut for stop in done) / len(fresh),
        "saved": share_saved(done),
        "auc_without_own_ends": auc(*recipe.flat(fresh, scores, hard=True)),
        "gain": ratio_interval([trace.template for trace in fresh], more, [stop.after for stop in done]),
    }


def _family(name: str, fresh: Sequence[Trace], done: Sequence[Stop]) -> dict[str, int]:
    mine = [(trace, stop) for trace, stop in zip(fresh, done, strict=True) if trace.family == name]
    return {
        "answers": len(mine),
        "complete": sum(trace.label.end is not None for trace, _ in mine),
        "cut": sum(stop.cut for _, stop in mine),
        "saved": sum(stop.saved for _, stop in mine),
        "after": sum(stop.after for _, stop in mine),
    }


def _unknown(name: str, development: Sequence[Trace], l2: float) -> dict[str, float | None]:
    """A head that was fitted, calibrated and given its threshold without the family, on the family."""
    known, other = [t for t in development if t.family != name], [t for t in development if t.family == name]
    inside = out_of_fold(known, l2)
    scale, shift = platt(known, inside)
    threshold = choose(known, [score * scale + shift for score in inside], recipe.MOST_CUT)
    made = head_on(known, l2)
    scores = Linear(made.weight * scale, made.bias * scale + shift).scores(other)
    done = stops(other, scores, threshold)
    hard = auc(*recipe.flat(other, scores, hard=True))  # NaN where a family is always complete at its ends, or never
    cut = sum(stop.cut for stop in done) / len(done)
    return {"cut": cut, "saved": share_saved(done), "auc_without_own_ends": None if np.isnan(hard) else hard}
