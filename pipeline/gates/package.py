"""The package gate: every function of the saved package is run, on real text, and compared with the student.

Here: the runs, the evidence, the thresholds. Not here: running a package (runtime/mil), the measures (runtime/numerics.py), what becomes of a
failure (pipeline/stages/convert.py).
The package is run in mode `fp16`: every value that it declares fp16 is rounded as a device stores it, so overflow and loss of precision show. What
this does not show is the order of sums inside Apple's own kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interlock.contracts.package import Evidence, PackageFacts, Thresholds
from interlock.voice import Task
from runtime.mil import Runner, open_package
from runtime.numerics import compare_logits, psnr_db
from runtime.student.model import Student

# Decode steps after the shortest prefill, and after every other one (its cache is read as well), always with the true next token.
DECODE_STEPS, FEW_STEPS = 32, 4
THRESHOLDS = Thresholds(psnr_db=50.0, kl_mean=1e-4, kl_max=1e-3)
PSNR_CAP_DB = 200.0


@dataclass(frozen=True)
class Reference:
    """The student on one text. ids: [N]; hidden: fp32 [N, d] after the final norm."""

    student: Student
    ids: Sequence[int]
    hidden: Tensor

    @staticmethod
    def of(student: Student, prompt: Sequence[int], length: int) -> Reference:
        """Runs the student once over the longest sequence: it is causal, so every shorter one is a part of it."""
        ids = (list(prompt) * (length // len(prompt) + 1))[:length]
        with torch.inference_mode():
            return Reference(student, ids, student.hidden(torch.tensor([ids]))[0])

    def outputs(self, start: int, end: int) -> dict[str, Tensor]:
        """What the package must say at positions start … end: logits [n, V], hidden [n, d], halt_logits [n, 2] with that head."""
        hidden = self.hidden[start:end]
        with torch.inference_mode():
            halts = {"halt_logits": self.student.halt(hidden)} if self.student.heads.use_halt_head else {}
            return {"logits": self.student.logits(hidden), "hidden": hidden, **halts}


def measure(package: Path, facts: PackageFacts, student: Student, prompt: Sequence[int], task: Task) -> tuple[tuple[Evidence, ...], bool]:
    """Evidence for every output of every function, and whether a repeated run gave the same bits.

    A package with state: each `prefill_<T>` on T tokens, read at its last, and steps of `decode` on the cache that it leaves. A package without:
    its function at every enumerated length, all positions.
    """
    task.note("load the package")
    runner = Runner(open_package(package), mode="fp16")
    if "decode" in facts.functions:
        return _stateful(runner, facts, student, prompt, task)
    return _stateless(runner, facts, student, prompt, task)


def _stateful(runner: Runner, facts: PackageFacts, student: Student, prompt: Sequence[int], task: Task) -> tuple[tuple[Evidence, ...], bool]:
    lengths = sorted(int(name.removeprefix("prefill_")) for name in facts.functions if name != "decode")
    slots = next(state.shape[2] for state in facts.functions["decode"].states if state.name == "k_cache")
    limit = min(slots, student.arch.max_position)
    steps = {length: min(DECODE_STEPS if length == lengths[0] else FEW_STEPS, limit - length) for length in lengths}
    task.note("reference")
    reference = Reference.of(student, prompt, max(length + after for length, after in steps.items()))
    evidence: list[Evidence] = []
    said, wanted = [], []
    for length in reversed(lengths):
        name = f"prefill_{length}"
        task.note(name)
        state = runner.new_state(name)
        found = runner.run(name, _prefill_inputs(reference.ids[:length]), state)
        evidence += compared(name, length, reference.outputs(length - 1, length), _rows([found]))
        for position in range(length, length + steps[length]):
            task.note(f"decode, position {position}")
            inputs = {"input_ids": np.array([[reference.ids[position]]], np.int32), "position_ids": np.array([position], np.int32)}
            said.append(runner.run("decode", inputs, state))
        wanted.append(reference.outputs(length, length + steps[length]))
    if said:
        evidence += compared("decode", 1, {name: torch.cat([part[name] for part in wanted]) for name in wanted[0]}, _rows(said))
    task.note(f"prefill_{lengths[0]} again")
    again = runner.run(f"prefill_{lengths[0]}", _prefill_inputs(reference.ids[: lengths[0]]), runner.new_state(f"prefill_{lengths[0]}"))
    return tuple(evidence), all(np.array_equal(found[name], again[name], equal_nan=True) for name in found)


def _stateless(runner: Runner, facts: PackageFacts, student: Student, prompt: Sequence[int], task: Task) -> tuple[tuple[Evidence, ...], bool]:
    (name, function) = next(iter(facts.functions.items()))
    lengths = sorted({shape[1] for shape in (function.inputs[0].enumerated or (function.inputs[0].shape,))})
    reference = Reference.of(student, prompt, lengths[-1])
    evidence: list[Evidence] = []
    repeatable = True
    for length in lengths:
        task.note(f"{name}, {length} tokens")
        inputs = {"input_ids": np.array([reference.ids[:length]], np.int32)}
        found = runner.run(name, inputs)
        if length == lengths[0]:
            again = runner.run(name, inputs)
            repeatable = all(np.array_equal(found[output], again[output], equal_nan=True) for output in found)
        expected = reference.outputs(0, length)
        if "halt_logits" in expected:
            expected["halt_logits"] = expected["halt_logits"][-1:]
        evidence += compared(name, length, expected, {output: torch.from_numpy(np.asarray(array, np.float32))[0] for output, array in found.items()})
    return tuple(evidence), repeatable


def _prefill_inputs(ids: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
    count = len(ids)
    return {"input_ids": np.array([ids], np.int32), "position_ids": np.arange(count, dtype=np.int32), "last_index": np.array([count - 1], np.int32)}


def _rows(steps: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Outputs of successive calls as rows: [n, size] fp32 for each output."""
    return {name: torch.cat([torch.from_numpy(np.asarray(step[name], np.float32)).reshape(1, -1) for step in steps]) for name in steps[0]}


def compared(function: str, tokens: int, expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[Evidence]:
    """Evidence for each output of one function. expected, found: [n, size] fp32 by output; an output of the package has its counterpart."""
    evidence = []
    for name, values in sorted(found.items()):
        wanted = expected[name]
        finite = bool(torch.isfinite(values).all())
        record: dict[str, Any] = {"function": function, "tokens": tokens, "output": name, "positions": len(values), "finite": finite}
        if not finite:
            evidence.append(Evidence(**record, psnr_db=None))
            continue
        if name == "hidden":
            evidence.append(Evidence(**record, psnr_db=_decibels(psnr_db(wanted, values))))
            continue
        figures = compare_logits(wanted, values)
        evidence.append(
            Evidence(
                **record,
                psnr_db=_decibels(figures.psnr_db),
                kl_mean=_short(figures.kl_mean),
                kl_max=_short(figures.kl_max),
                flips=figures.argmax_flips,
                decided_flips=figures.decided_flips,
            )
        )
    return evidence


def failures(evidence: Sequence[Evidence], repeatable: bool, thresholds: Thresholds = THRESHOLDS) -> list[str]:
    """What is outside the thresholds, one line each; empty when the package may be published."""
    found = [] if repeatable else ["a repeated run gave other bits"]
    for item in evidence:
        place = f"{item.function} ({item.tokens} tokens), {item.output}"
        if not item.finite or item.psnr_db is None:
            found.append(f"{place}: a value is not finite")
            continue
        if item.psnr_db < thresholds.psnr_db:
            found.append(f"{place}: {item.psnr_db} dB, at least {thresholds.psnr_db:g}")
        if item.output == "logits" and not (item.kl_mean is not None and item.kl_mean <= thresholds.kl_mean):
            found.append(f"{place}: mean KL {item.kl_mean}, at most {thresholds.kl_mean:g}")
        if item.output == "logits" and not (item.kl_max is not None and item.kl_max <= thresholds.kl_max):
            found.append(f"{place}: greatest KL {item.kl_max}, at most {thresholds.kl_max:g}")
        if item.decided_flips:
            found.append(f"{place}: {item.decided_flips} decisions flipped that rounding cannot flip")
    return found


def _decibels(value: float) -> float:
    return round(max(-PSNR_CAP_DB, min(value, PSNR_CAP_DB)), 2)


def _short(value: float) -> float:
    return float(f"{value:.2e}")
