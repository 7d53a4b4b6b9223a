"""Two models on the same items: the same text, the same most likely tokens, how far their probabilities are apart, and who is right more often."""

from __future__ import annotations

from collections.abc import Mapping

from eval.answers import Answered
from eval.figures import change, mean, quantile, rate
from eval.items import Item
from eval.scoring import Score, Scorer
from eval.scoring.answers import holds, is_right


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    ours, theirs = answers["text"], answers["against"]
    numbers = {name: list(values) for name, values in ours.numbers.items()}
    right = (holds(item, one.text) if item.accepted else is_right(item, one) for one in (ours, theirs))
    return {
        "same_answer": ours.text == theirs.text,
        **dict(zip(("right", "right_against"), right, strict=True)),
        "kl": numbers["kl"],
        "same_top": numbers["same_top"],
        "p_change": numbers["p_change"],
        "p_change_squared": [one * one for one in numbers["p_change"]],
    }


SCORER = Scorer(
    _score,
    {
        "same_answer": rate("same_answer"),
        "same_top": mean("same_top", full=1.0),
        "kl_mean": mean("kl"),
        "kl_median": quantile("kl", 0.5),
        "kl_p95": quantile("kl", 0.95),
        "kl_p99": quantile("kl", 0.99),
        "kl_p999": quantile("kl", 0.999),
        "kl_max": quantile("kl", 1.0),
        "p_change_mean": mean("p_change"),
        "p_change_mean_square": mean("p_change_squared"),
        "right": rate("right"),
        "right_against": rate("right_against"),
        "right_change": change("right", "right_against"),
    },
)
