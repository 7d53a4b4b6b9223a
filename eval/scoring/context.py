"""Context efficiency: how many tokens enter the context for one answer, by the model's own tokenizer.

Here: the total of an item (`ces` in the deployment guide; lower is better). Not here: what is saved against another run (a comparison of two).
Everything is counted once: the question, the tools that are offered, results, and what the model wrote.
"""

from __future__ import annotations

from collections.abc import Mapping

from eval.answers import Answered
from eval.figures import mean
from eval.items import Item
from eval.scoring import Score, Scorer


def _score(item: Item, answers: Mapping[str, Answered]) -> dict[str, Score]:
    said = answers["text"]
    return {"ces_tokens": float(said.prompt_tokens + said.passes), "generated_tokens": float(said.passes)}


WORDS = {
    "ces_tokens": "tokens that enter the context for an answer",
    "generated_tokens": "of them, those that the model wrote",
}
SCORER = Scorer(_score, {name: mean(name) for name in WORDS}, WORDS)
