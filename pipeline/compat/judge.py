"""One case from beginning to end: converted, saved, run, judged.

Here: the verdict on one case in this process. Not here: processes and time limits (probe.py), how it is converted and run (conversions.py).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.compat.cases import BY_NAME, Case
from pipeline.compat.results import Result

if TYPE_CHECKING:
    from pipeline.compat.trials import Pairs, Trial
    from runtime.mil.program import Block

# What is written for equal numbers, whose PSNR is infinite.
IDENTICAL_DB = 200.0
NOTE_LIMIT = 160
_PATH = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)*[\w.+-]+|0x[0-9a-f]{6,}")


def measured(name: str, folder: Path) -> Result:
    """Convert case `name` in `folder`, run what was saved, compare. Never raises for what the converter does."""
    from pipeline.compat.conversions import WAYS

    path, way, case = folder / "model.mlpackage", WAYS[name], BY_NAME[name]
    try:
        way.convert(path)
    except Exception as error:  # whatever a version of torch or coremltools raises is the measurement
        note = first_line(error)
        return Result("refused" if case.refusal and note.startswith(case.says) else "failed", note=note)
    return judged(case, path, way.trial)


def judged(case: Case, package: Path, trial: Trial) -> Result:
    """The verdict on a saved package."""
    from runtime.mil import Runner, open_package

    program = open_package(package)
    operations = dict(Counter(kind for function in program.functions.values() for kind in kinds(function.block)))
    try:
        pairs = trial(Runner(program, mode="fp16"))
    except Exception as error:  # a package that does not run, or lacks an output, is not what was asked for
        return Result("wrong", operations=operations, note=f"does not run: {first_line(error)}")
    worst, output = least(pairs)
    if math.isinf(worst) and worst < 0:
        return Result("wrong", operations=operations, note=f"`{output}` has another shape, or numbers that are not finite")
    note = "" if worst >= case.floor_db else f"`{output}` reaches {worst:.1f} dB, expected were at least {case.floor_db:g}"
    return Result("wrong" if note else "ok", round(min(worst, IDENTICAL_DB), 1), operations, note)


def least(pairs: Pairs) -> tuple[float, str]:
    """The least PSNR of an output over everything that was run, and its name. -inf where a shape differs or a number is not finite."""
    import torch

    from runtime.numerics import psnr_db

    by_output: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for name, expected, found in pairs:
        if expected.shape != found.shape:
            return -math.inf, name
        by_output.setdefault(name, []).append((expected.reshape(-1), found.reshape(-1)))
    measures = {
        name: psnr_db(torch.cat([expected for expected, _ in parts]), torch.cat([found.float() for _, found in parts]))
        for name, parts in by_output.items()
    }
    return min((-math.inf if math.isnan(value) else value, name) for name, value in measures.items())


def kinds(block: Block) -> Iterator[str]:
    """Types of operations that compute, those in inner blocks too."""
    for operation in block.operations:
        if operation.type != "const":
            yield operation.type
        for inner in operation.blocks:
            yield from kinds(inner)


def first_line(error: BaseException) -> str:
    """The class and the first line that says something, without paths and addresses of this machine."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = f"{type(error).__name__}: {_PATH.sub('<place>', line)}"
    return text if len(text) <= NOTE_LIMIT else f"{text[:NOTE_LIMIT]}…"
