"""`reading`: what two models think of every token of a text, while it is given to them.

Here: the tokens: those of a row's answer, after its prompt. Not here: the numbers (divergence.py), figures of them (scoring/reading.py), texts
(pipeline/datasets/passages.py). Nothing is generated: both models see the same tokens at each place.
"""

from __future__ import annotations

from eval.answers import Answered
from eval.asking import Ask, Settings
from eval.asking.divergence import compared
from eval.asking.parity import pair
from eval.items import Item
from eval.runners.deployment import ids_of


def opened(settings: Settings) -> Ask:
    """Raises UsageError where there is no second model, or one of another tokenizer."""
    ours, theirs = pair(settings)

    def ask(item: Item) -> dict[str, Answered]:
        ids = ids_of(theirs, item)
        tokens = theirs.tokenizer.encode(item.answer)
        return {"text": Answered("", "length", len(tokens), prompt_tokens=len(ids), numbers=compared(ours.backend, theirs.backend, ids, tokens))}

    return ask
