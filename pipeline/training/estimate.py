"""What a training would take: parameters by part, memory, tokens and epochs, and the time of a few steps that are taken and forgotten.

Here: figures. Not here: where rows and student come from (pipeline/verbs/train_estimate.py), how it is shown (pipeline/reports/estimate.py).
"""

from __future__ import annotations

import contextlib
import time
from itertools import pairwise
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from pipeline.training import step
from pipeline.training.batches import Batches
from pipeline.training.examples import Example
from pipeline.training.loop import Data, fit
from pipeline.training.model import Trained
from pipeline.training.ranks import Ranks
from pipeline.training.settings import Settings

# The steps that are timed go through the whole curriculum, evenly; no more of them than fit into this time.
STEPS, MOST_S = 24, 20.0
THROWN_AWAY, MERGED = "thrown away after training", "adapters, merged into the maps at the end"


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """`parameters` by part, and how many of all are `trained`; `memory_bytes`: weights, their gradients, the optimizer's moments, averages, each
    exactly, and `activations`, which one micro batch of the longest rows keeps for its backward pass; `others_bytes`: what this process has
    besides, None where the system does not tell. `row_tokens` of all rows to train on, steps in words. `step_s` and `evaluation_s` are means of
    what was timed here; `runs`: the student and its controls, each of `steps` steps with `evaluations` in between. Times are of one process,
    whatever the number of `processes` that share a batch; memory is that of each."""

    parameters: dict[str, int]
    trained: int
    memory_bytes: dict[str, int]
    others_bytes: int | None
    rows: int
    row_tokens: int
    batch: int
    steps: int
    steps_per_epoch: int
    runs: int
    processes: int
    evaluations: int
    step_s: float
    evaluation_s: float | None
    timed_steps: int

    @property
    def epochs(self) -> float:
        return self.steps / self.steps_per_epoch

    @property
    def total_s(self) -> float:
        """Of all runs; the questions at the end are not in it."""
        return self.runs * (self.steps * self.step_s + self.evaluations * (self.evaluation_s or 0.0))


class _EnoughError(Exception):
    """Raised out of the loop when no more time is to be spent."""


def estimated(trained: Trained, data: Data, settings: Settings, others_bytes: int | None) -> Estimate:
    """The figures; afterwards `trained` has been changed by some steps. Raises what the loop raises."""
    memory, parameters, changing = _memory(trained, data, settings), _parts(trained), sum(one.numel() for one in trained.changing().values())
    times = _timed(trained, data, settings)
    apart = [after - before for before, after in pairwise(times)]
    # The first step warms caches up and is not among them; with the last comes an evaluation, unless it was not reached.
    whole = len(times) == STEPS
    alone = apart[:-1] if whole and len(apart) > 1 else apart
    step_s = sum(alone) / len(alone)
    controls = len(settings.latent.controls) if settings.latent else 0
    return Estimate(
        parameters=parameters,
        trained=changing,
        memory_bytes=memory,
        others_bytes=others_bytes,
        rows=len(data.train),
        row_tokens=sum(_length(row) for row in data.train),
        batch=settings.batch,
        steps=settings.steps,
        steps_per_epoch=Batches(data.train, settings.batch, settings.seed).per_epoch,
        runs=1 + controls,
        processes=settings.processes,
        evaluations=-(-settings.steps // settings.evaluate_every),
        step_s=step_s,
        evaluation_s=max(0.0, apart[-1] - step_s) if whole else None,
        timed_steps=len(alone),
    )


def _length(row: Example) -> int:
    return len(row.prompt) + len(row.tail(0))


def _parts(trained: Trained) -> dict[str, int]:
    """Elements of the student's parameters by part, and of what is not in its checkpoint."""
    found: dict[str, int] = {}
    for name, parameter in trained.named_parameters():
        words = name.split(".")
        if words[0] != "student":
            part = THROWN_AWAY
        elif words[-1] in ("lora_A", "lora_B"):
            part = MERGED
        elif words[1] == "blocks":
            part = {"attn": "attention", "mlp": "mlp"}.get(words[3], "norms")
        else:
            part = {"embed": "embedding", "lm_head": "language head", "halt_head": "halt head", "norm_f": "norms"}.get(words[1], words[1])
        found[part] = found.get(part, 0) + parameter.numel()
    return found


def _memory(trained: Trained, data: Data, settings: Settings) -> dict[str, int]:
    every = sum(one.numel() * one.element_size() for one in trained.parameters())
    changing = sum(one.numel() * one.element_size() for one in trained.changing().values())
    if settings.sharded:  # an evaluation gathers the weights, beside the share of them
        every, changing = every + every // settings.processes, changing // settings.processes
    found = {"weights": every, "gradients": changing, "optimizer": 2 * changing}
    if settings.ema:
        found["average"] = changing
    if settings.patience is not None:
        found["best weights"] = changing
    return found | {"activations": _activations(trained, data, settings)}


def _activations(trained: Trained, data: Data, settings: Settings) -> int:
    """Bytes that autograd keeps between the passes of the longest rows, all steps in words or all in slots, whichever is more."""
    longest = max(data.train, key=_length)
    alike = sorted((row for row in data.train if len(row.steps) == len(longest.steps)), key=_length)
    rows = alike[-min(settings.micro_batch or settings.batch, settings.batch) :]
    ways = (0, len(longest.steps)) if trained.spans and longest.steps else (0,)
    return max(_kept(trained, rows, replaced, settings) for replaced in ways)


def _kept(trained: Trained, rows: list[Example], replaced: int, settings: Settings) -> int:
    own = {one.untyped_storage().data_ptr() for one in trained.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"),
        parametrize.cached(),
    ):
        losses = step.cost(trained, rows, replaced)
    del losses
    return sum(kept.values())


def _timed(trained: Trained, data: Data, settings: Settings) -> list[float]:
    """When each of some steps had been taken, on this machine's clock."""
    begun, times = time.monotonic(), []

    def tell(line: dict[str, Any], tokens: int) -> None:
        times.append(time.monotonic())
        if len(times) > 2 and times[-1] - begun > MOST_S:
            raise _EnoughError

    short = settings.model_copy(update={"steps": STEPS, "evaluate_every": STEPS, "patience": None, "sharded": False})
    with contextlib.suppress(_EnoughError):
        fit(trained, data, short, None, Ranks(), tell)
    return times
