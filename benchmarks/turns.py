"""Engines driven in turns in one process: medians per round, ratios within a round.

Here: the measurement. Not here: the engines (engines.py), the table (decode.py).
Absolute figures move with whatever else the machine does; ratios of medians that were taken in the same turns hold, and on a busy machine those of
the processor's least time.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from benchmarks.engines import Eager, Engine, Model, Roofline, Transformers, open_model
from interlock.errors import UsageError
from runtime.backends.held import Weights
from runtime.numerics import compare_logits

T = TypeVar("T")
Spent = tuple[float, float]
BASE, ROOFLINE = "transformers fp32", "read of the weights"
# Names of torch.cpu.get_capabilities().
BF16_UNITS = ("amx_bf16", "avx512_bf16", "bf16")


@dataclass
class Times:
    """Seconds of the clock, and of the processor. decode: one list of steps per round; prefill: one prompt per round."""

    decode: list[list[Spent]] = field(default_factory=list)
    prefill: list[Spent] = field(default_factory=list)

    @property
    def least_step(self) -> float:
        """Processor seconds of the quickest step: what a core that does nothing else would need."""
        return min(cpu for steps in self.decode for _, cpu in steps)

    @property
    def least_prompt(self) -> float:
        return min(cpu for _, cpu in self.prefill)


def measure(spec: str, prompt: int, steps: int, rounds: int, threads: int) -> dict[str, Any]:
    """All figures: per engine milliseconds and ratios to transformers, and how far its logits are from transformers'.

    Raises UsageError for counts below 1 or more tokens than the model has positions, and what open_model raises.
    """
    torch.set_num_threads(threads)
    model = open_model(spec)
    if min(prompt, steps, rounds) < 1:
        raise UsageError(f"{rounds} rounds of {prompt} + {steps} tokens", remedy="at least one of each")
    engines: dict[str, Engine] = {BASE: Transformers(model)} | {f"eager {weights}": Eager(model, weights) for weights in forms_of(model)}
    ids = model.text(prompt + steps)
    roofline = Roofline(model.size_bytes)
    agreement = {name: _distance(engines[BASE], engines[name], ids, prompt) for name in engines if name != BASE}
    times = {name: Times() for name in (*engines, ROOFLINE)}
    turns = [*engines, ROOFLINE]
    order = random.Random(0)  # noqa: S311
    for _ in range(rounds):
        order.shuffle(turns)
        for name in turns:
            if name in engines:
                times[name].prefill.append(timed(engines[name].prefill, ids[:prompt]))
            step = engines[name].decode if name in engines else roofline.decode
            times[name].decode.append([timed(step, token) for token in ids[prompt:]])
    capabilities = torch.cpu.get_capabilities()
    return {
        "model": spec,
        "base": BASE,
        "weights_mb": round(model.size_bytes / 1e6, 1),
        "threads": torch.get_num_threads(),
        "cpu": capabilities.get("cpu_name", "unknown"),
        "bf16_units": [unit for unit in BF16_UNITS if capabilities.get(unit)],
        "prompt": prompt,
        "rounds": rounds,
        "load": round(os.getloadavg()[0], 1),
        "engines": {name: _figures(times[name], times, agreement.get(name), prompt, _share(engines.get(name), model)) for name in times},
    }


def forms_of(model: Model) -> tuple[Weights, ...]:
    """In which eager can hold its weights."""
    return ("fp32", "bf16", "int8", *(("packed",) if model.codes else ()))


def _share(engine: Engine | None, model: Model) -> float:
    """Of the bytes that the weights have in fp32, those that an engine holds."""
    return engine.backend.weight_bytes / model.size_bytes if isinstance(engine, Eager) else 1.0


def timed(call: Callable[[T], object], argument: T) -> Spent:
    """Seconds of the clock and of the processor that a call takes."""
    clock, processor = time.perf_counter(), time.process_time()
    call(argument)
    return time.perf_counter() - clock, time.process_time() - processor


def _figures(own: Times, times: dict[str, Times], agreement: dict[str, Any] | None, prompt: int, share: float) -> dict[str, Any]:
    """share: of the fp32 bytes, what is read for one step."""
    decode, base = ([statistics.median(clock for clock, _ in steps) for steps in found.decode] for found in (own, times[BASE]))
    figures: dict[str, Any] = {
        "decode_ms": spread([1e3 * seconds for seconds in decode]),
        "decode_vs_base": spread([theirs / ours for theirs, ours in zip(base, decode, strict=True)]),
        "decode_cpu_ms": round(1e3 * own.least_step, 3),
        "decode_cpu_vs_base": round(times[BASE].least_step / own.least_step, 3),
        "share_of_read": round(share * times[ROOFLINE].least_step / own.least_step, 3),
    }
    if own.prefill:
        prefill, others = ([clock for clock, _ in found.prefill] for found in (own, times[BASE]))
        figures["prefill_tokens_per_s"] = spread([prompt / seconds for seconds in prefill])
        figures["prefill_vs_base"] = spread([theirs / ours for theirs, ours in zip(others, prefill, strict=True)])
        figures["prefill_cpu_vs_base"] = round(times[BASE].least_prompt / own.least_prompt, 3)
    return figures | ({"agreement": agreement} if agreement else {})


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


def _distance(base: Engine, other: Engine, ids: list[int], prompt: int) -> dict[str, Any]:
    """KL per token and flips over the prompt's last position and every forced step. Also the engines' warm-up."""
    outputs = [torch.stack([engine.prefill(ids[:prompt]), *(engine.decode(token) for token in ids[prompt:])]) for engine in (base, other)]
    found = compare_logits(*outputs)
    return {"kl_mean": found.kl_mean, "kl_max": found.kl_max, "max_abs": found.max_abs, "flips": found.argmax_flips, "positions": found.positions}
