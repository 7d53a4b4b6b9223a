"""The source's own blocks of a checkpoint, as forms of its weights.

Here: which weights can be carried, and why the others cannot. Not here: the forms (gguf_blocks.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from interlock.contracts.checkpoint import BLOCKS, CheckpointContract
from interlock.errors import refuse
from pipeline.coreml.compression.gguf_blocks import NoForm, form_of
from pipeline.coreml.compression.stored import Form
from runtime.student.blocks import UnknownBlocks, decode
from runtime.student.model import Student

REMEDY = "import the checkpoint again, or choose another --compress"


def carried(directory: Path, contract: CheckpointContract, student: Student) -> Iterator[tuple[str, Form | str]]:
    """(weight, its form, or why it has none) for every weight that the source stored in blocks, one at a time.

    A weight is carried only if its blocks say what the checkpoint says: equal after rounding to fp16, element by element.
    Raises ContractError for a checkpoint without blocks, or with a file of them that does not fit its contract.
    """
    path = directory / BLOCKS
    if not contract.has_blocks:
        kind = f"{contract.source.form} {contract.source.name}"
        raise refuse(path, "", expected="the source's own quantised blocks", found=f"none ({kind} is dense, or an older import)", remedy=REMEDY)
    shapes = contract.arch.weight_shapes(contract.model_arch)
    try:
        with safe_open(str(path), framework="np") as file:
            for name, kind in contract.source.quantization.items():
                if name not in shapes:
                    raise refuse(path, name, expected="blocks of a weight of this architecture", found="no such weight", remedy=REMEDY)
                yield name, _carried(path, name, kind, file.get_tensor(name), student, shapes[name])
    except (OSError, SafetensorError) as problem:
        raise refuse(path, "", expected="the blocks that the contract names", found=problem, remedy=REMEDY) from problem


def _carried(
    path: Path, name: str, kind: str, rows: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], student: Student, shape: tuple[int, ...]
) -> Form | str:
    if rows.dtype != np.uint8 or rows.ndim != 2:
        raise refuse(path, name, expected="rows of bytes", found=f"{rows.dtype} {list(rows.shape)}", remedy=REMEDY)
    try:
        blocks = decode(kind, rows)
    except UnknownBlocks:
        return f"{kind} blocks have no form in a package"
    except ValueError as problem:
        raise refuse(path, name, expected=f"whole blocks of {kind}", found=f"rows of {rows.shape[1]} bytes", remedy=REMEDY) from problem
    with np.errstate(all="ignore"):  # scales that are no numbers give other values, which is said below
        values = blocks.values()
    weight = student.get_parameter(name).data
    if values.size != weight.numel() or not torch.equal(torch.from_numpy(values).reshape(shape).half(), weight.half()):
        raise refuse(path, name, expected=f"blocks of the weight in the checkpoint, {list(shape)}", found="other values", remedy=REMEDY)
    try:
        return form_of(kind, blocks, values, (shape[0], shape[1]))
    except NoForm as problem:
        return str(problem)
