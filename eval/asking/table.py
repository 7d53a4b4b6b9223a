"""The table of ways to ask.

Here: imports of all of them, so that the key of stage `eval` has their source. Not here: any way.
"""

from __future__ import annotations

import torch

from eval.answers import Answered, Answers
from eval.asking import Ask, Settings, code, halting, latent, parity, reading, refinement, text, tools
from eval.items import Item
from eval.runners import NotAnswered

WAYS = {
    "text": text.opened,
    "latent": latent.opened,
    "halting": halting.opened,
    "parity": parity.opened,
    "tools": tools.opened,
    "code": code.opened,
    "reading": reading.opened,
    "refinement": refinement.opened,
}


def opened(settings: Settings) -> Ask:
    """The model or models of the settings, ready to be asked. One thread: an answer does not depend on how many processors there are. Of an item
    that got no answer it says so.

    Raises what opening a directory raises, and UsageError where the model cannot be asked in this way.
    """
    torch.set_num_threads(1)
    way = WAYS[settings.asks](settings)

    def ask(item: Item) -> Answers:
        try:
            return way(item)
        except NotAnswered as error:
            return {"text": Answered("", "failed", 0, problems=(error.problem,))}

    return ask
