"""Two models on the same items: the same text, the same most likely tokens, how far their probabilities are apart, and who is right more often."""

from __future__ import annotations

from collections.abc import Mapping

from eval.answers import Answered
from eval.figures import change, mean, quantile, rate
from eval.items import Item
from eval.scoring import Score, Scorer
from eval.scoring.answers import right


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    ours, theirs = answers["text"], answers["against"]
    numbers = {name: list(values) for name, values in ours.numbers.items()}
    return {
        "same_answer": ours.text == theirs.text,
        "right": right(item, ours),
        "right_against": right(item, theirs),
        "kl": numbers["kl"],
        "same_top": numbers["same_top"],
        "p_change": numbers["p_change"],
        "p_change_squared": [one * one for one in numbers["p_change"]],
    }


QUANTILES = {"kl_median": 0.5, "kl_p95": 0.95, "kl_p99": 0.99, "kl_p999": 0.999, "kl_max": 1.0}
WORDS = {
    "same_answer": "the same text, character by character",
    "same_top": "positions with the same most likely token",
    "kl_mean": "divergence of the next token's probabilities, nats, mean of positions",
    **{name: f"divergence that {100 * q:g} % of positions do not exceed" for name, q in QUANTILES.items()},
    "p_change_mean": "change of the probability of the token that was said",
    "p_change_mean_square": "the same squared: its root is what a sampler sees",
    "right": "right by this model",
    "right_against": "right by the other",
    "right_change": "more often right than the other",
}
SCORER = Scorer(
    _score,
    {
        "same_answer": rate("same_answer"),
        "same_top": mean("same_top", full=1.0),
        "kl_mean": mean("kl"),
        **{name: quantile("kl", q) for name, q in QUANTILES.items()},
        "p_change_mean": mean("p_change"),
        "p_change_mean_square": mean("p_change_squared"),
        "right": rate("right"),
        "right_against": rate("right_against"),
        "right_change": change("right", "right_against"),
    },
    WORDS,
)
