"""The package gate: every function of the saved package is run, on real text, and compared with the student.

Here: measuring, and what is outside the thresholds. Not here: the thresholds (thresholds.py), the runs (stateful.py, stateless.py), figures
(evidence.py), range (headroom.py), running a package (runtime/mil), what becomes of a failure (verdict.py).
The package is run in mode `fp16`: every value that it declares fp16 is rounded as a device stores it, so overflow and loss of precision show. What
this does not show is the order of sums inside Apple's own kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from interlock.contracts.package import Evidence, HeadRoom, PackageFacts, Thresholds
from interlock.voice import Task
from pipeline.gates.headroom import Watch, shortage, unsafe
from pipeline.gates.latent import chained_bounds
from pipeline.gates.stateful import measure_stateful
from pipeline.gates.stateless import measure_stateless
from pipeline.gates.thresholds import FAITHFUL
from runtime.mil import Runner, open_package
from runtime.student.model import Student

# Of a package that stores fp16.
THRESHOLDS = FAITHFUL


class Measured(NamedTuple):
    """What the runs showed. repeatable: a repeated call gave the same bits; headroom: the values with the least; refused: what of the package's
    range is not safe, one line each."""

    evidence: tuple[Evidence, ...]
    repeatable: bool
    headroom: tuple[HeadRoom, ...]
    refused: tuple[str, ...]


def measure(
    package: Path,
    facts: PackageFacts,
    student: Student,
    prompt: Sequence[int],
    task: Task,
    thresholds: Thresholds = THRESHOLDS,
    latent_slots: int = 0,
) -> Measured:
    """Run a package. Its PSNR threshold says which flips an allowed error explains; nothing is judged here but range.

    With state: `prefill_<T>` for every T at 32 positions (the shortest at 512), `decode` after each, 128 steps after the shortest; the shortest
    also resumed, padded and against decode alone; `decode_latent` for a span of `latent_slots` after the shortest. Without state: the function at
    every enumerated length, all positions.
    """
    task.note("load the package")
    program = open_package(package)
    runner, watch = Runner(program, mode="fp16"), Watch(program)
    given = runner, facts, student, prompt, thresholds.psnr_db, watch, task
    evidence, repeatable = measure_stateful(*given, latent_slots) if "decode" in facts.functions else measure_stateless(*given)
    headroom = watch.headroom()
    return Measured(tuple(evidence), repeatable, headroom, (*unsafe(program), *shortage(headroom)))


def failures(evidence: Sequence[Evidence], repeatable: bool, thresholds: Thresholds = THRESHOLDS) -> list[str]:
    """What is outside the thresholds, one line each; empty when the package may be published (and nothing of its range was refused)."""
    found = [] if repeatable else ["a repeated run gave other bits"]
    for item in evidence:
        how = f"{item.function} ({', '.join(filter(None, (f'{item.tokens} tokens', item.case, item.against and f'against {item.against}')))})"
        place = f"{how}, {item.output}"
        if not item.finite or item.psnr_db is None:
            found.append(f"{place}: a value is not finite")
            continue
        least = chained_bounds(item, thresholds)
        if item.psnr_db < least.psnr_db:
            found.append(f"{place}: {item.psnr_db} dB, at least {least.psnr_db:g}")
        if item.output == "logits" and not (item.kl_mean is not None and item.kl_mean <= least.kl_mean):
            found.append(f"{place}: mean KL {item.kl_mean}, at most {least.kl_mean:g}")
        if item.output == "logits" and not (item.kl_max is not None and item.kl_max <= least.kl_max):
            found.append(f"{place}: greatest KL {item.kl_max}, at most {least.kl_max:g}")
        if item.decided_flips:
            found.append(f"{place}: {item.decided_flips} decisions flipped that an allowed error does not explain")
    return found
