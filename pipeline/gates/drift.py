"""How far the package of the other lane is from the published one: operations, and outputs on the same inputs.

Here: which calls are made on both, the record of it, and what becomes of a drift that is too large. Not here: making the two (pipeline/coreml),
what is outside a threshold (package.py).
Two front ends read one model; an error of either shows here even where it stays inside the thresholds of the gate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from interlock.contracts.package import LATENT, PACKAGE, Drift, Function, PackageFacts
from interlock.errors import GateFailed
from interlock.fs import publish, workspace
from interlock.voice import Task
from pipeline.gates.evidence import Outputs, Pool, rows, stacked
from pipeline.gates.latent import stepping
from pipeline.gates.package import failures
from pipeline.gates.reference import Reference
from pipeline.gates.spans import Span
from pipeline.gates.stateful import decode_inputs, prefill_inputs, spread
from pipeline.gates.thresholds import FAITHFUL
from pipeline.gates.verdict import Run
from runtime.mil import Runner, open_package
from runtime.student.model import Student

# Rows that are read of every length, decode steps on the cache that the shortest leaves, and latent slots after it.
ROWS, STEPS, SLOTS = 8, 16, 4
PUBLISHED = "trace"

# Function, its tokens, where it was read, and what the published and the other package said there.
Call = tuple[str, int, Sequence[int], Outputs, Outputs]


def judge_drift(
    packages: tuple[Path, Path], facts: tuple[PackageFacts, PackageFacts], student: Student, prompt: Sequence[int], run: Run, task: Task
) -> Drift:
    """measure_drift, under the thresholds of an fp16 package: the lanes must be as close to each other as each must be to the student, because they
    round the same values at the same places. Raises GateFailed, and keeps both packages and the record under `rejected/` beside the output."""
    drift = measure_drift(packages, facts, student, prompt, FAITHFUL.psnr_db, task)
    if wrong := failures(drift.evidence, repeatable=True, thresholds=FAITHFUL):
        kept = run.rejected
        document = {"findings": wrong, "command": run.command, "drift": drift.model_dump(mode="json")}
        with workspace(kept, run.work.fs) as rejected:
            for name, path in zip((PACKAGE, "other.mlpackage"), packages, strict=True):
                rejected.copy(path, name)
            rejected.write("drift.json", json.dumps(document, indent=2).encode())
            publish(rejected, kept)
        raise GateFailed(
            f"the two lanes do not compute the same ({len(wrong)} findings)",
            measured="; ".join(wrong[:4]),
            threshold=f"{FAITHFUL.psnr_db:g} dB, KL mean {FAITHFUL.kl_mean:g}, greatest {FAITHFUL.kl_max:g}, no decided flip",
            remedy=f"nothing was published; both packages and the figures are in `{kept}`: the lane that is far from the student is the wrong one",
        )
    return drift


def measure_drift(
    packages: tuple[Path, Path], facts: tuple[PackageFacts, PackageFacts], student: Student, prompt: Sequence[int], allowed_db: float, task: Task
) -> Drift:
    """packages, facts: the published one, then the other; both have the same interface. allowed_db: the PSNR that explains a flip.

    Evidence of the other package twice: against the student, and against the published one. Mode `fp16`, as in the gate.
    """
    task.note("load both packages")
    published, other = (Runner(open_package(path), mode="fp16") for path in packages)
    lengths = _lengths(facts[0])
    stateful = "decode" in facts[0].functions
    task.note("reference")
    reference = Reference.of(student, prompt, max(lengths[-1], lengths[0] + STEPS) if stateful else lengths[-1])
    pools: dict[tuple[str, int], tuple[Pool, Pool]] = {}
    for function, tokens, read, first, second in (_stateful if stateful else _stateless)(published, other, reference, lengths, task):
        new = Pool(function, tokens, allowed_db), Pool(function, tokens, allowed_db, against=PUBLISHED)
        alone, beside = pools.setdefault((function, tokens), new)
        alone.add({name: values[-len(second[name]) :] for name, values in reference.outputs(list(read)).items() if name in second}, second)
        beside.add(first, second)
    if LATENT in facts[0].functions:
        pools[LATENT, 1] = _latent(published, other, reference, lengths[0], allowed_db, task)
    evidence = tuple(item for pair in pools.values() for pool in pair for item in pool.evidence())
    return Drift(operations=_differences(*(given.functions for given in facts)), evidence=evidence)


def _lengths(facts: PackageFacts) -> list[int]:
    """Of the prefill functions, or those that the one function enumerates."""
    if "decode" in facts.functions:
        return sorted(int(name.removeprefix("prefill_")) for name in facts.functions if name.startswith("prefill_"))
    (function,) = facts.functions.values()
    return sorted({shape[1] for shape in (function.inputs[0].enumerated or (function.inputs[0].shape,))})


def _stateful(published: Runner, other: Runner, reference: Reference, lengths: Sequence[int], task: Task) -> Iterator[Call]:
    """Each prefill at some rows, longest first, then decode on what the shortest left in either cache."""
    ids = reference.ids
    for length in reversed(lengths):
        name, read = f"prefill_{length}", spread(length, ROWS)
        task.note(name)
        given, ends = prefill_inputs(ids[:length], length, 0), [np.array([place], np.int32) for place in read]
        states = [runner.new_state(name) for runner in (published, other)]
        said = [
            stacked([rows(step) for step in runner.sweep(name, given, "last_index", ends, state)])
            for runner, state in zip((published, other), states, strict=True)
        ]
        yield name, length, read, said[0], said[1]
    slots = states[0].tensors["k_cache"].shape[2]
    for position in range(lengths[0], min(lengths[0] + STEPS, slots, len(ids))):
        task.note(f"decode, position {position}")
        step = decode_inputs(ids[position], position)
        said = [rows(runner.run("decode", step, state)) for runner, state in zip((published, other), states, strict=True)]
        yield "decode", 1, [position], said[0], said[1]


def _latent(published: Runner, other: Runner, reference: Reference, length: int, allowed_db: float, task: Task) -> tuple[Pool, Pool]:
    """A span after the shortest prefill, both fed with the student's states."""
    task.note(LATENT)
    alone, beside = Pool(LATENT, 1, allowed_db), Pool(LATENT, 1, allowed_db, against=PUBLISHED)
    slots = min(SLOTS, published.new_state("decode").tensors["k_cache"].shape[2] - length, reference.student.arch.max_position - length)
    if slots > 0:
        span, said = Span.of(reference.student, reference.ids[:length], slots), list[Outputs]()
        for runner in (published, other):
            name = f"prefill_{length}"
            state = runner.new_state(name)
            runner.run(name, prefill_inputs(reference.ids[:length], length, 0), state)
            said.append(span.forced(stepping(runner, state)))
        alone.add(span.outputs, said[1])
        beside.add(said[0], said[1])
    return alone, beside


def _stateless(published: Runner, other: Runner, reference: Reference, lengths: Sequence[int], task: Task) -> Iterator[Call]:
    (name,) = published.program.functions
    for length in lengths:
        task.note(f"{name}, {length} tokens")
        read = spread(length, ROWS)
        said = [_read(runner.run(name, {"input_ids": np.array([reference.ids[:length]], np.int32)}), read) for runner in (published, other)]
        yield name, length, read, said[0], said[1]


def _read(found: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], read: Sequence[int]) -> Outputs:
    """Logits at some of all positions; what is said once, of the last."""
    return {name: torch.from_numpy((array[0, list(read)] if array.ndim == 3 else array).astype(np.float32)) for name, array in found.items()}


def _differences(published: Mapping[str, Function], other: Mapping[str, Function]) -> dict[str, dict[str, int]]:
    """By function, operations that the other package has more (or, negative, fewer) than the published one."""
    found = {}
    for name, function in published.items():
        ours, theirs = function.operations, other[name].operations
        counts = {kind: theirs.get(kind, 0) - ours.get(kind, 0) for kind in sorted({*ours, *theirs})}
        found[name] = {kind: count for kind, count in counts.items() if count}
    return found
