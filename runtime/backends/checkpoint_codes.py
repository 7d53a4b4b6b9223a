"""The codes that a checkpoint keeps of its source: a GGUF file's own blocks.

Here: reading them by name. Not here: their layouts (runtime/student/blocks.py), how they are held (held.py).
The caller has compared the file's digest with the contract.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from interlock.contracts.checkpoint import BLOCKS, CheckpointContract
from interlock.errors import UsageError, refuse
from runtime.backends.codes import Codes, joined
from runtime.backends.held import LoadCodes
from runtime.student.blocks import Affine, UnknownBlocks, decode

REMEDY = "import the checkpoint again"
# Rows at a time: decoding holds several times what they become.
PART = 4096


def checkpoint_codes(directory: Path, contract: CheckpointContract) -> LoadCodes:
    """Codes of a weight that the source stored in blocks, read when asked for; None for one that it did not, or in blocks that have no codes.

    Raises UsageError for a checkpoint without blocks, the function ContractError for a file that does not fit its contract.
    """
    if not contract.has_blocks:
        remedy = "use --weights int8, or import a quantised GGUF file"
        raise UsageError(f"`{directory}` has no packed weights: {contract.source.form} {contract.source.name} is dense", remedy=remedy)
    path = directory / BLOCKS
    kinds, shapes = contract.source.quantization, contract.arch.weight_shapes(contract.model_arch)

    def load(name: str) -> Codes | None:
        if name not in kinds:
            return None
        try:
            with safe_open(str(path), framework="np") as file:
                rows = file.get_tensor(name)
        except (OSError, SafetensorError) as problem:
            raise refuse(path, name, expected="the blocks that the contract names", found=problem, remedy=REMEDY) from problem
        try:
            return packed_codes(kinds[name], rows, shapes[name])
        except UnknownBlocks:
            return None
        except ValueError as problem:
            expected = f"{kinds[name]} blocks of a weight {list(shapes[name])}"
            raise refuse(path, name, expected=expected, found=f"{rows.dtype} {list(rows.shape)}", remedy=REMEDY) from problem

    return load


def packed_codes(kind: str, rows: NDArray[np.uint8], shape: tuple[int, ...]) -> Codes:
    """The blocks of a weight [N, K] as codes; rows: uint8 [N, bytes of a row]. Raises UnknownBlocks, and ValueError where they do not fit."""
    if rows.dtype != np.uint8 or rows.ndim != 2 or len(rows) != shape[0]:
        raise ValueError(f"{rows.dtype} {list(rows.shape)}")
    return joined([_codes(decode(kind, rows[at : at + PART]), shape[1]) for at in range(0, len(rows), PART)])


def _codes(blocks: Affine, width: int) -> Codes:
    """Of some rows of that many columns. Kinds that have a minimum count from 0, the others around it."""
    count, size = blocks.codes.shape
    if width % size or count % (width // size):
        raise ValueError(f"{count} blocks of {size} for rows of {width}")
    spread = (-1, width // size)
    codes = blocks.codes.astype(np.int8 if blocks.minimum is None else np.uint8).reshape(-1, width)
    offset = None if blocks.minimum is None else blocks.minimum.reshape(spread)
    return Codes(codes, blocks.scale.reshape(spread), offset, blocks.bits, added=offset is not None)
