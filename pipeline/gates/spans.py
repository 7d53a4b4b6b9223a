"""A latent span of the student after a text: what a file or package that takes latent vectors is compared with.

Here: the student's own chain, and the same chain through any step. Not here: whose steps those are (pipeline/export/shapes.py, latent.py), figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.gates.reference import filled, outputs_of
from runtime.student.model import Student

# One latent step: the vector [d] and its position → the outputs by name, one row each.
LatentStep = Callable[[Tensor, int], dict[str, Tensor]]


@dataclass(frozen=True)
class Span:
    """The slots that follow a text. start: position of the first; fed: fp32 [n, d], the vector of each: the hidden state of the step before;
    outputs: what the student says at each, by name, [n, size]; after: tokens that follow the span, after_outputs: what it says at each of those."""

    start: int
    fed: Tensor
    outputs: dict[str, Tensor]
    after: tuple[int, ...]
    after_outputs: dict[str, Tensor]

    @staticmethod
    def of(student: Student, ids: Sequence[int], slots: int, after: Sequence[int] = ()) -> Span:
        """Runs the student over the text, then `slots` steps, each on the hidden state of the step before, then over the tokens of `after`."""
        start, arch = len(ids), student.arch
        caches = torch.zeros(2, arch.n_layers, arch.n_kv_heads, start + slots + len(after), arch.d_head)
        with torch.inference_mode():
            vector = filled(student, ids, caches)[-1]
            fed, hidden = [], []
            for position in range(start, start + slots):
                fed.append(vector)
                vector = student.extend(vector[None, None], torch.tensor([position], dtype=torch.int32), caches[0], caches[1])[0, 0]
                hidden.append(vector)
            rest = torch.arange(start + slots, start + slots + len(after), dtype=torch.int32)
            later = outputs_of(student, student.extend(torch.tensor([list(after)]), rest, caches[0], caches[1])[0]) if after else {}
        return Span(start, torch.stack(fed), outputs_of(student, torch.stack(hidden)), tuple(after), later)

    def forced(self, step: LatentStep) -> dict[str, Tensor]:
        """The outputs of `step` at each slot when it is fed what the student was fed."""
        said = [step(vector, self.start + slot) for slot, vector in enumerate(self.fed)]
        return _stacked(said)

    def chained(self, step: LatentStep) -> dict[str, Tensor]:
        """The same when it is fed its own hidden state of the step before, from the second slot on: its errors add up."""
        said, vector = list[dict[str, Tensor]](), self.fed[0]
        for slot in range(len(self.fed)):
            said.append(step(vector, self.start + slot))
            vector = said[-1]["hidden"][0]
        return _stacked(said)


def _stacked(said: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([one[name] for one in said]) for name in said[0]}
