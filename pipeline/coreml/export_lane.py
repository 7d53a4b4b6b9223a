"""The second lane: the same functions as `torch.export` programs, converted by coremltools' other front end.

Here: exporting a student's forms, one program per function. Not here: the conversion itself and the first lane (functions.py), how far the two
lanes are apart (drift.py).
The programs are made where they are converted, and not stored by the export stage: the cache length is decided here, a program holds the weights
a second time (fp32, 540 MB for 135 M parameters), and exporting costs less than loading such a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interlock.contracts.export import Signature
from pipeline.coreml.functions import FunctionPlan, Stateful, Target, cache_shape, convert_function, convert_whole, example
from pipeline.coreml.messages import collected, load_converter
from pipeline.export.forms import DecodeForm, PrefillForm, scatter_writer
from runtime.student.model import Student


def convert_stateful_exported(
    student: Student, signatures: dict[str, Signature], plans: Sequence[FunctionPlan], slots: int, into: Path, note: Callable[[str], None]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """What functions.convert_stateful makes of the exported files, made of the student that they hold: same names, types, states and precision."""
    packages: dict[str, Path] = {}
    lines = list(load_converter()[1])
    forms = {"prefill": PrefillForm(student, scatter_writer), "decode": DecodeForm(student, scatter_writer)}
    for plan in plans:
        note(f"{plan.name}: torch.export")
        signature = signatures[plan.artifact]
        module = Stateful(forms[signature.mode], plan.method, cache_shape(signature, slots))
        with collected() as said:
            program = _exported(module, example(signature.methods[plan.method], plan.tokens))
        packages[plan.name] = into / f"{plan.name}.mlpackage"
        lines += said
        lines += convert_function(program, plan, signature, slots, packages[plan.name], note)
    return packages, tuple(lines)


def convert_single_exported(
    student: Student, signature: Signature, lengths: Sequence[int], primary: int, target: Target, into: Path, note: Callable[[str], None]
) -> tuple[str, ...]:
    """What functions.convert_single makes of the exported prefill file."""
    _, said_on_import = load_converter()
    note("torch.export")
    tokens = torch.export.Dim("T", min=min(lengths), max=max(lengths)) if len(lengths) > 1 else None
    with collected() as said:
        program = _exported(PrefillForm(student), (torch.zeros(1, primary, dtype=torch.int32),), {"input_ids": {1: tokens}})
    return (*said_on_import, *said, *convert_whole(program, signature, lengths, primary, target, into, note))


def _exported(module: nn.Module, inputs: tuple[Tensor, ...], dynamic_shapes: dict[str, Any] | None = None) -> Any:
    """The empty table keeps attention one operation; torch's own takes it apart, to 181 operations of 123 and with -inf in fp16."""
    program = torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic_shapes)
    return program.run_decompositions({})
