"""The two ways from an export to an fp16 package: its TorchScript files as they are, or `torch.export` programs of the student that they hold.

Here: all functions of a layout, converted and joined. Not here: one function (functions.py, export_lane.py), which of them are derived
(lengths.py), how far the two are apart (pipeline/gates/drift.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from interlock.contracts.export import PREFILL, ExportContract
from pipeline.coreml.export_lane import convert_single_exported, convert_stateful_exported
from pipeline.coreml.functions import STATE_TARGET, convert_single, convert_stateful, plan_functions
from pipeline.coreml.lengths import convert_plans
from pipeline.coreml.merge import merge_functions
from runtime.student.model import Student


def convert_trace(
    directory: Path, source: ExportContract, slots: int | None, scratch: Path, into: Path, note: Callable[[str], None]
) -> tuple[str, ...]:
    """The package `into`, in layout `multifunction` with `slots` cache slots, in layout `single` for None. Returns what the converter said.

    directory: of the export whose digests the caller has checked: loading runs the files' code.
    """
    signature, lengths, primary = source.signatures[PREFILL], source.enumerated_T, source.shape_validation.primary_shape
    if slots is None:
        return convert_single(directory / PREFILL, signature, lengths, primary, STATE_TARGET, into, note)
    files = {name: directory / name for name in source.signatures}
    convert = partial(convert_stateful, files, source.signatures, slots=slots, into=scratch, note=note)
    parts, said = convert_plans(plan_functions(lengths, latent=source.latent is not None), convert, scratch, note)
    merge_functions(parts, "decode", into, note)
    return said


def convert_export(
    student: Student, source: ExportContract, slots: int | None, scratch: Path, into: Path, note: Callable[[str], None]
) -> tuple[str, ...]:
    """The same package from the student with the export's stored weights."""
    signature, lengths, primary = source.signatures[PREFILL], source.enumerated_T, source.shape_validation.primary_shape
    if slots is None:
        return convert_single_exported(student, signature, lengths, primary, STATE_TARGET, into, note)
    convert = partial(convert_stateful_exported, student, source.signatures, slots=slots, into=scratch, note=note)
    parts, said = convert_plans(plan_functions(lengths, latent=source.latent is not None), convert, scratch, note)
    merge_functions(parts, "decode", into, note)
    return said
