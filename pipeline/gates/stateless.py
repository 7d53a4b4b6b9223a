"""Runs of a package without state: its function at every enumerated length, all positions.

Here: which calls are made and what each is compared with. Not here: figures (evidence.py), thresholds (package.py), range (headroom.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from interlock.contracts.package import Evidence, PackageFacts
from interlock.voice import Task
from pipeline.gates.evidence import Pool
from pipeline.gates.headroom import Watch
from pipeline.gates.reference import Reference
from runtime.mil import Runner
from runtime.student.model import Student

# Rows that are compared at a time: 4096 × 49152 logits are 0.4 GB in fp16, and no second array of that size is made.
SLICE = 128


def measure_stateless(
    runner: Runner, facts: PackageFacts, student: Student, prompt: Sequence[int], allowed_db: float, watch: Watch, task: Task
) -> tuple[list[Evidence], bool]:
    """Evidence for every output at every length, and whether a repeated call gave the same bits."""
    (name, function) = next(iter(facts.functions.items()))
    lengths = sorted({shape[1] for shape in (function.inputs[0].enumerated or (function.inputs[0].shape,))})
    task.note("reference")
    reference = Reference.of(student, prompt, lengths[-1])
    evidence: list[Evidence] = []
    repeatable = True
    for length in lengths:
        task.note(f"{name}, {length} tokens")
        inputs = {"input_ids": np.array([reference.ids[:length]], np.int32)}
        found = runner.run(name, inputs)
        if length == lengths[0]:
            again = runner.run(name, inputs, observe=watch)
            repeatable = all(np.array_equal(found[output], again[output], equal_nan=True) for output in found)
        task.note(f"{name}, {length} tokens, compare")
        pool = Pool(name, length, allowed_db)
        for start in range(0, length, SLICE):
            end = min(start + SLICE, length)
            said = {output: torch.from_numpy(array[0, start:end].astype(np.float32)) for output, array in found.items() if array.ndim == 3}
            pool.add(reference.outputs(slice(start, end)), said)
        ends = {output: torch.from_numpy(array.astype(np.float32)) for output, array in found.items() if array.ndim == 2}
        pool.add(reference.outputs(slice(length - 1, length)), ends)
        evidence += pool.evidence()
    return evidence, repeatable
