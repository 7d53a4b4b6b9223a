"""One optimizer step: the losses of all micro batches over the counts of all ranks, gradients, the update.

Here: normalisation and clipping. Not here: which rows (batches.py), what a batch costs (objective.py), when to evaluate or save (loop.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils import parametrize

from interlock.errors import StageFailed
from pipeline.training import code_mode
from pipeline.training.examples import Example
from pipeline.training.losses.sums import LossParts, TokenSum
from pipeline.training.model import Trained
from pipeline.training.ranks import Ranks
from pipeline.training.settings import Distillation, Settings
from pipeline.training.sharding import whole


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
    number: int = 0,
    silent: int = 0,
) -> Made:
    """One step over this rank's micro batches; `number`: which, from 0, for weights that grow. Raises StageFailed, and changes no weight, where a
    loss or the gradient is not finite.

    The last `silent` of them count for nothing: all ranks gather shares of weights equally often.
    The sum of a loss is divided by the count of its supervised places in the whole step, over micro batches and ranks: a mean of means would weigh
    rows by the company they are in.
    """
    weights = settings.weights.model_dump() | ({code_mode.LOSS: settings.code_mode.at(number)} if settings.code_mode else {})
    heard = len(micro_batches) - silent
    counts = ranks.total({name: float(count) for name, count in _counts(trained, micro_batches[:heard], replaced, settings).items()})
    sums = dict.fromkeys(counts, 0.0)
    optimizer.zero_grad(set_to_none=True)
    for place, rows in enumerate(micro_batches):
        with parametrize.cached():
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
                losses = cost(trained, rows, replaced, settings.distillation if settings.weights.kl else None)
            LossParts(losses, weights if place < heard else dict.fromkeys(weights, 0.0)).objective(
                {name: int(count) for name, count in counts.items()}
            ).backward()  # type: ignore[no-untyped-call]
        for name, loss in losses.items():
            sums[name] += loss.total.item() if place < heard else 0.0
    sums = ranks.total(sums)
    changing = list(trained.changing().values())
    if not settings.sharded:
        ranks.add_gradients(changing)
    norm = whole(torch.nn.utils.clip_grad_norm_(changing, settings.clip))
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
    return {name: TokenSum(*pair) for name, pair in trained(rows, replaced, distilled).items()}


def _counts(trained: Trained, micro_batches: Sequence[Sequence[Example]], replaced: int, settings: Settings) -> dict[str, int]:
    """How many places each loss will supervise, known from the rows alone."""
    rows = [row for part in micro_batches for row in part]
    counts = {"ce": sum(len(row.tail(replaced)) for row in rows if not row.own)}
    if settings.weights.kl and not replaced:
        counts["kl"] = sum(len(row.answer) for row in rows if row.teacher is not None)
    if settings.code_mode and not replaced:
        counts[code_mode.LOSS] = sum(code_mode.count(row) for row in rows)
    if replaced and trained.decoder is not None:
        tokens = trained.decoder.tokens
        counts["step"] = sum(min(tokens, len(step)) for row in rows for step in row.steps[:replaced])
    if replaced and trained.halts:
        counts["halt"] = len(rows) * replaced
    return counts
