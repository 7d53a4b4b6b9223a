"""Weights as they are stored, with their products: floats, and integers of up to 8 bits with a scale per row and block of columns.

Here: how weights are laid out for the C functions, and the calls. Not here: the C (csrc), whether it can be trusted (proof.py).

Error of one output against exact arithmetic on the same weights, with u = 2^-24:
* dense: |error| ≤ (K + 8)·u·Σ|w·x|, the bound of any order of fp32 summation.
* blocks: activations become 16-bit integers per tile of 32 columns, x ≈ step·q with step = max|x|/32512 over the tile. q is off by at most
  0.51 (one half for rounding, the rest for the fp32 arithmetic before it), so |error| ≤ Σ over tiles of 0.51·step·Σ|scale·(code - offset)|.
  Integer sums are exact. To that comes fp32 arithmetic on T tiles in a row, (2T + 16)·u·Σ|scale|·(|code| + |offset|)·(|x| + step), and a tile
  below 2^-110, which counts as zero.
A tile with NaN or infinity makes every output of that row NaN. Activations above 2^100 may overflow to infinity; nothing non-finite turns finite.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 16
TILE = 32
Function = Callable[[int, int, int, int], int]
# A step (decoder.py): model, sequences, how many, inputs, logits, halt logits, threads.
Step = Callable[[int, object, int, int, int, int | None, int], int]


class DenseMatrix(ctypes.Structure):
    """`struct dense` of csrc/kernels.h."""

    _fields_ = (("weight", ctypes.c_void_p), ("n", ctypes.c_int64), ("k", ctypes.c_int64), ("type", ctypes.c_int32))


class BlockMatrix(ctypes.Structure):
    """`struct blocks` of csrc/kernels.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("codes", "scale", "offset")),
        *((name, ctypes.c_int64) for name in ("n", "k", "blocks", "width")),
        *((name, ctypes.c_int32) for name in ("bits", "zero", "wide", "added")),
    )


class Product:
    """One weight of n rows and k columns, and its products with fp32 activations on the CPU. One thread; the interpreter lock is free meanwhile.

    address: of what C knows of it, as long as this object lives.
    """

    def __init__(self, function: Function, matrix: ctypes.Structure, n: int, k: int, parts: tuple[Tensor, ...]) -> None:
        self.n = n
        self.k = k
        self.nbytes = sum(part.numel() * part.element_size() for part in parts)
        self._function = function
        self._matrix = matrix
        self.address = ctypes.addressof(matrix)

    def vector(self, x: Tensor) -> Tensor:
        """x: fp32 [k] → fp32 [n]."""
        out = torch.empty(self.n)
        self._run(x, x.shape == (self.k,), out, 1)
        return out

    def rows(self, x: Tensor) -> Tensor:
        """x: fp32 [T, k] → fp32 [T, n]. The weight is read once, whatever T is."""
        out = torch.empty(len(x), self.n)
        self._run(x, x.shape[1:] == (self.k,), out, len(x))
        return out

    def select(self, index: Tensor) -> Tensor:
        """Rows of the weight. index: int64 [T], each in 0 ≤ i < n → fp32 [T, k]. Raises IndexError."""
        raise NotImplementedError

    def _run(self, x: Tensor, fits: bool, out: Tensor, rows: int) -> None:
        if not fits or x.dtype is not torch.float32 or not x.is_cpu:
            raise ValueError(f"fp32 activations of {self.k} columns on the CPU, not {x.dtype} {tuple(x.shape)} on {x.device}")
        x = x.contiguous()
        if self._function(self.address, x.data_ptr(), out.data_ptr(), rows):
            raise MemoryError(f"no memory to quantise {rows} rows of {self.k} activations")

    def _check(self, index: Tensor) -> None:
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.n:
            raise IndexError(f"rows {int(index.min())} to {int(index.max())} of a weight that has {self.n}")


# As the enumeration in csrc/kernels.h.
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


class Dense(Product):
    """fp32, fp16 or bf16 [n, k] as it was given, without a copy where it is contiguous: a file's mapped bytes are multiplied in place."""

    def __init__(self, function: Function, weight: Tensor) -> None:
        if weight.dtype not in TYPES or weight.dim() != 2 or not weight.is_cpu:
            raise ValueError(f"a matrix in fp32, fp16 or bf16 on the CPU, not {weight.dtype} {tuple(weight.shape)} on {weight.device}")
        self.weight = weight.detach().contiguous()
        n, k = weight.shape
        super().__init__(function, DenseMatrix(self.weight.data_ptr(), n, k, TYPES[weight.dtype]), n, k, (self.weight,))

    def select(self, index: Tensor) -> Tensor:
        self._check(index)
        return self.weight[index].float()


class Blocks(Product):
    """value = scale · (code - offset), or scale · code + offset, repacked for the C functions (csrc/kernels.h has the layout)."""

    def __init__(self, function: Function, codes: Tensor, scale: Tensor, offset: Tensor | None, bits: int, *, added: bool) -> None:
        _check_blocks(codes, scale, offset, bits)
        n, k = codes.shape
        self.blocks = scale.shape[1]
        self.width = k // self.blocks
        self.bits = 4 if bits <= 4 else 8
        self.added = added
        self.zero = 1 << (bits - 1) if codes.dtype is torch.int8 else 0
        self.codes = _pack(_unsigned(codes, bits, self.zero), self.blocks, self.bits)
        narrow = _is_half(scale) and (offset is None or _is_half(offset))
        self.scale = _grouped(scale, narrow)
        self.offset = None if offset is None else _grouped(offset, narrow)
        parts = (self.codes, self.scale) if self.offset is None else (self.codes, self.scale, self.offset)
        pointers = self.codes.data_ptr(), self.scale.data_ptr(), None if self.offset is None else self.offset.data_ptr()
        matrix = BlockMatrix(*pointers, n, k, self.blocks, self.width, self.bits, self.zero, not narrow, added)
        super().__init__(function, matrix, n, k, parts)

    def select(self, index: Tensor) -> Tensor:
        self._check(index)
        group, row = index // GROUP, index % GROUP
        packed = self.codes[group, :, :, row]  # [T, blocks·tiles, bits, 4]
        tiles = packed.flatten(2) if self.bits == 8 else torch.cat([packed & 15, packed >> 4], 2).flatten(2)
        codes = tiles.reshape(len(index), self.blocks, -(-self.width // TILE) * TILE)[:, :, : self.width].float() - self.zero
        scale = self.scale[group, :, row, None].float()
        if self.offset is None:
            return (codes * scale).flatten(1)
        offset = self.offset[group, :, row, None].float()
        return (codes * scale + offset if self.added else (codes - offset) * scale).flatten(1)


@dataclass(frozen=True)
class Kernels:
    """The products of one variant. Weights stay where they are; errors as stated above."""

    variant: str
    dense_function: Function
    blocks_function: Function
    step_function: Step

    def dense(self, weight: Tensor) -> Dense:
        """weight: fp32, fp16 or bf16 [N, K], kept as it is if contiguous. Activations and sums are fp32. Raises ValueError."""
        return Dense(self.dense_function, weight)

    def blocks(self, codes: Tensor, scale: Tensor, offset: Tensor | None, bits: int, *, added: bool = False) -> Blocks:
        """value = scale · (code - offset), or where the offset is `added` scale · code + offset.

        codes: int8 or uint8 [N, K], one code in each, in the range of `bits` (1 to 8; stored in 4 or 8). scale: fp16 or fp32 [N, K/B] for any B
        that divides K. offset: any real type, the same shape, or None. Raises ValueError, for a code outside its range too.
        """
        return Blocks(self.blocks_function, codes, scale, offset, bits, added=added)


def _check_blocks(codes: Tensor, scale: Tensor, offset: Tensor | None, bits: int) -> None:
    """Raises ValueError: callers read shapes and types from a validated program."""
    if codes.dtype not in (torch.int8, torch.uint8) or codes.dim() != 2 or not codes.numel() or not 1 <= bits <= 8:
        raise ValueError(f"a matrix of int8 or uint8 codes of 1 to 8 bits, not {codes.dtype} {tuple(codes.shape)} of {bits}")
    if scale.dim() != 2 or len(scale) != len(codes) or not scale.numel() or codes.shape[1] % scale.shape[1]:
        raise ValueError(f"a scale per row and block of a matrix {tuple(codes.shape)}, not {tuple(scale.shape)}")
    if scale.dtype not in (torch.float16, torch.float32):
        raise ValueError(f"scales in fp16 or fp32, not {scale.dtype}")
    if offset is not None and offset.shape != scale.shape:
        raise ValueError(f"offsets as scales, {tuple(scale.shape)}, not {tuple(offset.shape)}")


def _unsigned(codes: Tensor, bits: int, zero: int) -> Tensor:
    """uint8 [n, k] from 0: always a copy, whose memory can be read in words. Raises ValueError for a code that has more bits."""
    raised = codes.contiguous().view(torch.uint8) + zero
    if bits < 8 and int(raised.max()) >> bits:
        raise ValueError(f"a code needs more than {bits} bits")
    return raised


def _pack(codes: Tensor, blocks: int, bits: int) -> Tensor:
    """uint8 [n, k] → [groups, blocks·tiles, bits, 16, 4]."""
    n, k = codes.shape
    width = k // blocks
    if width % TILE:
        codes = F.pad(codes.view(n, blocks, width), (0, -width % TILE)).flatten(1)
    if n % GROUP:
        codes = F.pad(codes, (0, 0, 0, -n % GROUP))
    if bits == 4:
        halves = codes.view(len(codes), -1, 2, 16)
        codes = (halves[:, :, 0] | (halves[:, :, 1] << 4)).flatten(1)
    words = codes.view(torch.int32).view(len(codes) // GROUP, GROUP, -1)
    packed = words.transpose(1, 2).contiguous().view(torch.uint8)
    return packed.view(len(words), -1, bits, GROUP, 4)


def _is_half(factors: Tensor) -> bool:
    """Whether fp16 holds every value exactly."""
    return factors.dtype is torch.float16 or torch.equal(factors.half().float(), factors.float())


def _grouped(factors: Tensor, narrow: bool) -> Tensor:
    """[n, blocks] → [groups, blocks, 16], fp16 or fp32."""
    typed = factors.to(torch.float16 if narrow else torch.float32)
    return F.pad(typed, (0, 0, 0, -len(typed) % GROUP)).reshape(-1, GROUP, typed.shape[1]).transpose(1, 2).contiguous()
