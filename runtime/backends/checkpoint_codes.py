"""The codes that a checkpoint keeps of its source: a GGUF file's own blocks.

Here: reading them by name. Not here: their layouts (runtime/student/blocks.py), how they are held (held.py).
The caller has compared the file's digest with the contract.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from interlock.contracts.checkpoint import BLOCKS, CheckpointContract
from interlock.errors import UsageError, refuse
from runtime.backends.codes import Codes
from runtime.backends.held import LoadCodes
from runtime.student.blocks import Affine, UnknownBlocks, decode

REMEDY = "import the checkpoint again"


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
            return codes_of(decode(kinds[name], rows), shapes[name])
        except UnknownBlocks:
            return None
        except ValueError as problem:
            expected = f"{kinds[name]} blocks of a weight {list(shapes[name])}"
            raise refuse(path, name, expected=expected, found=f"{rows.dtype} {list(rows.shape)}", remedy=REMEDY) from problem

    return load


def codes_of(blocks: Affine, shape: tuple[int, ...]) -> Codes:
    """Decoded blocks of a weight [N, K]. Raises ValueError where they are not as many as it has."""
    if blocks.codes.size != shape[0] * shape[1] or shape[1] % blocks.codes.shape[1]:
        raise ValueError(f"{blocks.codes.size} codes for {list(shape)}")
    signed = bool((blocks.codes < 0).any())
    codes = torch.from_numpy(blocks.codes.astype(np.int8 if signed else np.uint8).reshape(shape))
    spread = (shape[0], shape[1] // blocks.codes.shape[1])
    scale, offset = (None if part is None else torch.from_numpy(part.reshape(spread)) for part in (blocks.scale, blocks.minimum))
    assert scale is not None
    return Codes(codes, scale, offset, blocks.bits, added=offset is not None)
