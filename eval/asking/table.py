"""The table of ways to ask.

Here: imports of all of them, so that the key of stage `eval` has their source. Not here: any way.
"""

from __future__ import annotations

import torch

from eval.asking import Ask, Settings, code, halting, latent, parity, reading, text, tools

WAYS = {
    "text": text.opened,
    "latent": latent.opened,
    "halting": halting.opened,
    "parity": parity.opened,
    "tools": tools.opened,
    "code": code.opened,
    "reading": reading.opened,
}


def opened(settings: Settings) -> Ask:
    """The model or models of the settings, ready to be asked. One thread: an answer does not depend on how many processors there are.

    Raises what opening a directory raises, and UsageError where the model cannot be asked in this way.
    """
    torch.set_num_threads(1)
    return WAYS[settings.asks](settings)
