"""A text that two models read: how surprised each is, and how far they are apart.

Here: perplexity, the same per byte, and the figures of parity along a text. Not here: the numbers (asking/reading.py).
Perplexity is comparable for one tokenizer and one text alone, bits per byte across tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from eval.answers import Answered
from eval.figures import Metric, Row, mean, quantile
from eval.items import Item
from eval.scoring import Score, Scorer
from eval.statistics import clusters
from eval.statistics.gates import Figure
from eval.statistics.intervals import Interval


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    """`bits`: of the whole text, by the first model; `bytes`: of it."""
    numbers = {name: list(values) for name, values in answers["text"].numbers.items()}
    return {
        **{name: numbers[name] for name in ("nll", "nll_against", "kl", "same_top")},
        "nll_change": [now - before for now, before in zip(numbers["nll"], numbers["nll_against"], strict=True)],
        "p_change_squared": [one * one for one in numbers["p_change"]],
        "bits": sum(numbers["nll"]) / math.log(2),
        "bytes": float(len(item.answer.encode())),
    }


def _through(metric: Metric, function: Callable[[float], float]) -> Metric:
    """A figure of a rising function: so are the ends of its interval."""

    def figure(rows: Sequence[Row], confidence: float) -> Figure:
        found = metric(rows, confidence)
        if found.interval is None:
            return found
        return Figure(Interval(*map(function, found.interval)), found.n, found.method, found.missed)

    return figure


def _per_byte(rows: Sequence[Row], confidence: float) -> Figure:
    names = [row.get("cluster") or f"item {row['id']}" for row in rows]
    bits, sizes = ([float(row["scores"][name]) for row in rows] for name in ("bits", "bytes"))
    if not sum(sizes) > 0:
        return Figure(None, 0, "cluster bootstrap")
    measured = sum(bits) / sum(sizes)
    low, high = clusters.ratio_interval(names, bits, sizes, confidence)
    return Figure(Interval(measured, min(low, measured), max(high, measured)), len(rows), "cluster bootstrap")


QUANTILES = {"kl_median": 0.5, "kl_p95": 0.95, "kl_p99": 0.99, "kl_p999": 0.999, "kl_max": 1.0}
WORDS = {
    "perplexity": "how many tokens the model hesitates between, on average",
    "perplexity_against": "the same of the other model",
    "perplexity_ratio": "the one over the other",
    "bits_per_byte": "what the model needs to write the text down",
    "kl_mean": "divergence from the other model, in nats per token",
    **{name: f"its quantile {q:g}" for name, q in QUANTILES.items()},
    "same_top": "tokens at which both find the same one most likely",
    "p_change_rms": "how far the probability of the text's token is from the other model's",
}
METRICS = {
    "perplexity": _through(mean("nll"), math.exp),
    "perplexity_against": _through(mean("nll_against"), math.exp),
    "perplexity_ratio": _through(mean("nll_change"), math.exp),
    "bits_per_byte": _per_byte,
    "kl_mean": mean("kl"),
    **{name: quantile("kl", q) for name, q in QUANTILES.items()},
    "same_top": mean("same_top", full=1.0),
    "p_change_rms": _through(mean("p_change_squared"), math.sqrt),
}
SCORER = Scorer(_score, METRICS, WORDS)
