"""Prompts with their answers, engines and numbers of threads in turns in one process.

Here: the measurement. Not here: the engines (engines.py), the table (answers.py), how to read ratios (turns.py).
The answer's tokens are given, so that every engine does the same work.
"""

from __future__ import annotations

import os
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.engines import Eager, Engine, Transformers, open_model
from benchmarks.turns import BASE, Spent, forms_of, spread, timed
from interlock.errors import UsageError

# Whole answers by engine and threads: of each round the prompt, and the rest.
Times = dict[tuple[str, int], list[tuple[Spent, Spent]]]


def measure(spec: str, prompt: int, answer: int, rounds: int, threads: Sequence[int]) -> dict[str, Any]:
    """All figures. Raises UsageError for counts below 1 (an answer has two tokens at least), and what open_model raises."""
    if min(prompt - 1, answer - 1, rounds, *threads) < 1:
        raise UsageError(
            f"{rounds} rounds of {prompt} + {answer} tokens on {list(threads)} threads", remedy="two tokens of each, one round, one thread"
        )
    model = open_model(spec)
    ids = model.text(prompt + answer)
    engines: dict[str, Engine] = {BASE: Transformers(model)} | {f"eager {weights}": Eager(model, weights) for weights in forms_of(model)}
    turns = [(name, count) for name in engines for count in threads]
    times: Times = {turn: [] for turn in turns}
    known: dict[tuple[str, int], list[Spent]] = defaultdict(list)
    order = random.Random(0)  # noqa: S311
    for number in range(rounds + 1):
        order.shuffle(turns)
        for name, count in turns:
            torch.set_num_threads(count)
            engine = engines[name]
            read = timed(engine.prefill, ids[:prompt])
            said = timed(_each(engine.decode), ids[prompt:] if number else ids[prompt : prompt + 2])
            if number:  # the first is a warm-up
                times[name, count].append((read, said))
            if number and isinstance(engine, Eager):
                engine.cache.rewind(prompt - 1)
                known[name, count].append(timed(engine.decode, ids[prompt - 1]))
    return {
        "model": spec,
        "base": BASE,
        "cpu": torch.cpu.get_capabilities().get("cpu_name", "unknown"),
        "load": round(os.getloadavg()[0], 1),
        "prompt": prompt,
        "answer": answer,
        "rounds": rounds,
        "threads": list(threads),
        "rows": [_row(name, count, times, threads[0], known) for name in engines for count in threads],
    }


def _each(call: Callable[[int], object]) -> Callable[[list[int]], None]:
    def run(tokens: list[int]) -> None:
        for token in tokens:
            call(token)

    return run


def _row(name: str, count: int, times: Times, first: int, known: dict[tuple[str, int], list[Spent]]) -> dict[str, Any]:
    own, base, alone = times[name, count], times[BASE, count], times[name, first]

    def whole(found: list[tuple[Spent, Spent]], which: int) -> list[float]:
        return [read[which] + said[which] for read, said in found]

    row: dict[str, Any] = {
        "engine": name,
        "threads": count,
        "prompt_ms": spread([1e3 * read[0] for read, _ in own]),
        "whole_s": spread(whole(own, 0)),
        "whole_vs_base": spread([theirs / ours for theirs, ours in zip(whole(base, 0), whole(own, 0), strict=True)]),
        "whole_cpu_vs_base": round(min(whole(base, 1)) / min(whole(own, 1)), 3),
        "prompt_vs_first": spread([before[0] / after[0] for (before, _), (after, _) in zip(alone, own, strict=True)]),
        "answer_vs_first": spread([before[0] / after[0] for (_, before), (_, after) in zip(alone, own, strict=True)]),
    }
    if found := known[name, count]:
        row["known"] = round(statistics.median(step[0] / read[0] for step, (read, _) in zip(found, own, strict=True)), 4)
    return row
