"""One optimizer step: the losses of all micro batches over the counts of all ranks, gradients, the update.

Here: normalisation and clipping. Not here: which rows (batches.py), what a batch costs (objective.py), when to evaluate or save (loop.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from interlock.errors import StageFailed
from pipeline.training import objective
from pipeline.training.examples import Example
from pipeline.training.losses.sums import LossParts, TokenSum
from pipeline.training.model import Trained
from pipeline.training.ranks import Ranks
from pipeline.training.settings import Distillation, Settings


@dataclass(frozen=True)
class Made:
    """What a step was: the mean of each loss over what it supervised, their weighted sum, the gradient's norm before clipping, supervised tokens."""

    losses: dict[str, float]
    total: float
    norm: float
    tokens: int


def take(
    trained: Trained,
    optimizer: torch.optim.Optimizer,
    micro_batches: Sequence[Sequence[Example]],
    replaced: int,
    settings: Settings,
    ranks: Ranks,
    where: str,
) -> Made:
    """One step over this rank's micro batches. Raises StageFailed, and changes no weight, where a loss or the gradient is not finite.

    The sum of a loss is divided by the count of its supervised places in the whole step, over micro batches and ranks: a mean of means would weigh
    rows by the company they are in.
    """
    weights = settings.weights.model_dump()
    counts = ranks.total({name: float(count) for name, count in _counts(trained, micro_batches, replaced, settings).items()})
    sums = dict.fromkeys(counts, 0.0)
    optimizer.zero_grad(set_to_none=True)
    for rows in micro_batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            losses = cost(trained, rows, replaced, settings.distillation if settings.weights.kl else None)
        LossParts(losses, weights).objective({name: int(count) for name, count in counts.items()}).backward()  # type: ignore[no-untyped-call]
        for name, loss in losses.items():
            sums[name] += loss.total.item()
    sums = ranks.total(sums)
    changing = list(trained.changing().values())
    ranks.add_gradients(changing)
    norm = torch.nn.utils.clip_grad_norm_(changing, settings.clip)
    means = {name: sums[name] / counts[name] for name in sums if counts[name]}
    total = sum(weights[name] * mean for name, mean in means.items())
    if not torch.isfinite(norm) or not torch.isfinite(torch.tensor(total)):
        ids = ", ".join(row.id for rows in micro_batches for row in rows[:3])
        raise StageFailed(
            f"{where}: the loss is {total}, the gradient's norm {norm.item()} (rows {ids} …; {', '.join(f'{k} {v:.3g}' for k, v in means.items())})",
            remedy="no weight was changed by it; lower `lr` or `clip`, or look at these rows; the same command goes on from what was saved last",
        )
    optimizer.step()
    return Made(means, total, norm.item(), int(counts["ce"]))


def cost(trained: Trained, rows: Sequence[Example], replaced: int, distilled: Distillation | None = None) -> dict[str, TokenSum]:
    """The losses of one micro batch."""
    if not replaced:
        return objective.text_loss(trained.student, rows, trained.special, distilled, recompute=trained.recompute)
    options = objective.LatentOptions(trained.slots_per_step, trained.halts, trained.decoder, trained.pause, trained.recompute)
    return objective.latent_loss(trained.student, rows, trained.special, replaced=replaced, options=options)


def _counts(trained: Trained, micro_batches: Sequence[Sequence[Example]], replaced: int, settings: Settings) -> dict[str, int]:
    """How many places each loss will supervise, known from the rows alone."""
    rows = [row for part in micro_batches for row in part]
    counts = {"ce": sum(len(row.tail(replaced)) for row in rows if not row.own)}
    if settings.weights.kl and not replaced:
        counts["kl"] = sum(len(row.answer) for row in rows if row.teacher is not None)
    if replaced and trained.decoder is not None:
        tokens = trained.decoder.tokens
        counts["step"] = sum(min(tokens, len(step)) for row in rows for step in row.steps[:replaced])
    if replaced and trained.halts:
        counts["halt"] = len(rows) * replaced
    return counts
