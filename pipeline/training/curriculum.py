"""How many reasoning steps a batch says in slots instead of words, at each moment of a training.

Here: the two schedules. Not here: the passes of a span (latent.py).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Curriculum:
    """A share `text` of the batches says all steps in words, so that this is never forgotten. Of the others:

    `mixture`: from batch to batch, with a probability that grows from 0 to `whole` over the training all steps become slots, otherwise a number of
    them that is drawn evenly, none included. Every length of a span is trained throughout.

    `staged`: stage s replaces the first s steps (Coconut, arXiv:2412.06769 section 3), one stage after the other in equal parts of the training,
    `stages` of them after stage 0; a share `mixed` of the batches is of an earlier stage.
    """

    schedule: Literal["mixture", "staged"]
    text: float = 0.0
    whole: float = 0.7
    stages: int = 1
    mixed: float = 0.0

    def replaced(self, steps: int, progress: float, draw: random.Random) -> int:
        """Of `steps` steps, how many are replaced. progress: 0 … 1 of the training; draw: this batch's own source of chance."""
        if draw.random() < self.text:
            return 0
        if self.schedule == "mixture":
            return steps if draw.random() < min(self.whole, progress) else draw.randint(0, steps)
        stage = min(int(progress * (self.stages + 1)), self.stages)
        if draw.random() < self.mixed:
            stage = draw.randint(0, stage)
        return min(stage, steps)
