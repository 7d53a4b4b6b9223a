"""The loop: batch after batch, evaluation and saving in between, an end.

Here: the order of things. Not here: one step (step.py), what is measured on held-out rows (evaluation.py), what is shown (watching.py).
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.training import evaluation, on_policy, sharding, state, step
from pipeline.training.batches import Batches, shares
from pipeline.training.curriculum import Curriculum
from pipeline.training.examples import Example
from pipeline.training.model import Trained, decayed
from pipeline.training.ranks import Ranks
from pipeline.training.schedule import learning_rate
from pipeline.training.settings import Settings
from runtime.student.model import Student

# Told after every step: the line of the log, and how many tokens were supervised.
Told = Callable[[dict[str, Any], int], None]


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows to validate with; what identifies both, for a resumed run; how ids become text, for samples (None: no samples);
    a teacher that judges text (None: rows have what one thought, or nothing)."""

    train: Sequence[Example]
    validation: Sequence[Example]
    identity: str
    decode: Callable[[Sequence[int]], str] | None = None
    teacher: Student | None = None


@dataclass(frozen=True)
class Trace:
    """What a training leaves beside its weights: steps done, the log. A line of the log has what is the same on every machine of this kind: no
    times."""

    steps: int
    log: list[dict[str, Any]]


def fit(trained: Trained, data: Data, settings: Settings, folder: Path | None, ranks: Ranks, tell: Told) -> Trace:
    """Train in place; afterwards `trained` has the weights that are kept, and its student is what a checkpoint has.

    `folder` is where a killed run's state lies and is saved (None: nowhere).
    Raises StageFailed for a loss that is not finite, ContractError for the state of another training.
    """
    torch.set_num_threads(settings.threads)
    own = state.identity(trained, settings.model_dump(mode="json"), data.identity, ranks.count)
    learner = sharding.sharded(trained) if settings.sharded else trained
    optimizer = _optimizer(learner, settings)
    now = state.read(folder, own, learner, optimizer) if folder else state.State()
    batches = Batches(data.train, settings.batch, settings.seed)
    learner.train()
    while now.step < settings.steps:
        line, tokens = _step(trained, learner, optimizer, batches, data.teacher, settings, now.step, ranks)
        now.step += 1
        _average(now, learner, settings)
        last = now.step == settings.steps
        if last or now.step % settings.evaluate_every == 0:
            line |= _evaluate(trained, learner, now, data, settings)
        now.log.append(line)
        tell(line, tokens)
        if settings.patience is not None and now.waited >= settings.patience:
            break
        if folder and not last and now.step % settings.save_every == 0:
            state.write(folder, own, now, learner, optimizer, first=ranks.first)
    kept = now.best if settings.patience is not None else now.average
    if settings.sharded:
        sharding.gather(learner, trained, kept)
    else:
        trained.load_state_dict(kept, strict=False)
    trained.end()
    return Trace(now.step, now.log)


def _optimizer(trained: Trained, settings: Settings) -> torch.optim.AdamW:
    changing = trained.changing().items()
    groups = [
        {"params": [one for name, one in changing if decayed(name, one)], "weight_decay": settings.weight_decay},
        {"params": [one for name, one in changing if not decayed(name, one)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr, betas=(settings.beta1, settings.beta2))


def _step(
    trained: Trained,
    learner: Trained,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    teacher: Student | None,
    settings: Settings,
    number: int,
    ranks: Ranks,
) -> tuple[dict[str, Any], int]:
    rate = learning_rate(settings, number)
    for group in optimizer.param_groups:
        group["lr"] = rate
    rows = batches.at(number)
    chance = batches.chance(number)
    replaced = _replaced(rows, trained, settings, number, chance)
    if trained.control == "direct":
        rows = [Example(row.id, row.prompt, (), row.answer) for row in rows]
    if teacher is not None and trained.control is None and not replaced:
        if on_policy.is_own(settings, number):
            with _asked(trained, learner, {}):
                rows = on_policy.own_answers(trained.student, rows, trained.special, settings.seed + number)
        rows = on_policy.scored(teacher, rows, trained.special, settings.micro_batch or settings.batch)
    micro = settings.micro_batch or settings.batch
    parts = shares(rows, micro, ranks.rank, ranks.count)
    silent = -(-len(rows) // (ranks.count * micro)) - len(parts) if settings.sharded else 0
    with torch.random.fork_rng(devices=[]):  # what dropout draws, by seed, step and rank alone
        torch.manual_seed(chance.getrandbits(48) + ranks.rank)
        made = step.take(learner, optimizer, [*parts, *[rows[:1]] * silent], replaced, settings, ranks, f"step {number + 1}", number, silent)
    line = {"step": number + 1, "lr": rate, "replaced": replaced, "total": made.total, "norm": made.norm, "losses": made.losses}
    return line, made.tokens


def _replaced(rows: Sequence[Example], trained: Trained, settings: Settings, number: int, draw: random.Random) -> int:
    """How many of the rows' steps become slots. Rows without steps have none to replace, and the control `direct` says none."""
    latent = settings.latent
    if latent is None or trained.control == "direct" or not rows[0].steps:
        return 0
    curriculum = Curriculum(latent.schedule, latent.text, latent.whole, latent.stages, latent.mixed)
    return curriculum.replaced(len(rows[0].steps), number / settings.steps, draw)


def _average(now: state.State, learner: Trained, settings: Settings) -> None:
    if not settings.ema:
        return
    with torch.no_grad():
        for name, parameter in learner.changing().items():
            if name in now.average:
                now.average[name].lerp_(parameter.detach(), 1 - settings.ema)
            else:
                now.average[name] = parameter.detach().clone()


def _evaluate(trained: Trained, learner: Trained, now: state.State, data: Data, settings: Settings) -> dict[str, Any]:
    """The validation split, asked of the weights that would be kept: loss by number of slots, and the mean that decides about patience."""
    with _asked(trained, learner, now.average):
        losses = evaluation.losses(trained, data.validation, settings)
        loss = sum(losses.values()) / len(losses)
        if settings.patience is not None:
            better = now.best_loss is None or loss < now.best_loss
            now.waited = 0 if better else now.waited + 1
            if better:
                now.best_loss, now.best = loss, {name: one.detach().clone() for name, one in (now.average or learner.changing()).items()}
        answers = evaluation.answers(trained, data.validation, data.decode)
    return {"validation": loss, "by_slots": losses, **answers}


@contextlib.contextmanager
def _asked(trained: Trained, learner: Trained, other: dict[str, Tensor]) -> Iterator[None]:
    """`trained` as it answers, with the learner's weights or `other` ones inside the block; after it training goes on."""
    if learner is not trained:
        with sharding.gathered(learner, trained, other), trained.asked():
            yield
        return
    own = {name: one.detach().clone() for name, one in trained.changing().items()} if other else {}
    trained.load_state_dict(other, strict=False)
    try:
        with trained.asked():
            yield
    finally:
        trained.load_state_dict(own, strict=False)
