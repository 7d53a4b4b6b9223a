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
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
GROUP = 16
TILE = 32
Function = Callable[[int, int, int, int], int]
# A step (decoder.py): model, sequences, how many, inputs, logits, halt logits, whether it is a prompt, threads.
Step = Callable[[int, object, int, int, int, int | None, bool, int], int]
# A prompt on matrix units: model, sequence, inputs, logits, halt logits, threads.
Prompt = Callable[[int, object, int, int, int | None, int], int]


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

    def __init__(self, function: Function, matrix: ctypes.Structure, n: int, k: int, parts: tuple[Array, ...]) -> None:
        self.n = n
        self.k = k
        self.nbytes = sum(part.nbytes for part in parts)
        self._function = function
        self._matrix = matrix
        self.address = ctypes.addressof(matrix)

    def vector(self, x: Floats) -> Floats:
        """x: fp32 [k] → fp32 [n]."""
        out = np.empty(self.n, np.float32)
        self._run(x, x.shape == (self.k,), out, 1)
        return out

    def rows(self, x: Floats) -> Floats:
        """x: fp32 [T, k] → fp32 [T, n]. The weight is read once, whatever T is."""
        out = np.empty((len(x), self.n), np.float32)
        self._run(x, x.shape[1:] == (self.k,), out, len(x))
        return out

    def select(self, index: NDArray[np.int64]) -> Floats:
        """Rows of the weight. index: int64 [T], each in 0 ≤ i < n → fp32 [T, k]. Raises IndexError."""
        raise NotImplementedError

    def _run(self, x: Floats, fits: bool, out: Floats, rows: int) -> None:
        if not fits or x.dtype != np.float32:
            raise ValueError(f"fp32 activations of {self.k} columns, not {x.dtype} {x.shape}")
        x = np.ascontiguousarray(x)
        if self._function(self.address, address(x), address(out), rows):
            raise MemoryError(f"no memory to quantise {rows} rows of {self.k} activations")

    def _check(self, index: NDArray[np.int64]) -> None:
        least, most = (int(np.min(index)), int(np.max(index))) if index.size else (0, 0)
        if least < 0 or most >= self.n:
            raise IndexError(f"rows {least} to {most} of a weight that has {self.n}")


def address(array: Array) -> int:
    """Of an array's first element, as long as the array lives."""
    at: int = array.__array_interface__["data"][0]
    return at


# As the enumeration in csrc/kernels.h. numpy has no bf16: here, and wherever weights are held, its bits stand as uint16.
BRAIN = np.dtype(np.uint16)
# Elements that are converted at a time: in fp32 they stay in the second-level cache from one operation to the next.
PART = 1 << 16
TYPES: dict[np.dtype[Any], int] = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, BRAIN: 2}


def single(weight: Array) -> Floats:
    """Any of the types as fp32, itself where it is: exact."""
    if weight.dtype == BRAIN:
        wide: Floats = (weight.astype(np.uint32) << 16).view(np.float32)
        return wide
    return weight.astype(np.float32, copy=False)


def brain(weight: Array) -> NDArray[np.uint16]:
    """Any of the types as bf16, rounded to nearest, ties to even; NaN stays NaN."""
    if weight.dtype == BRAIN:
        return weight
    found = np.empty(weight.size, np.uint16)
    whole = np.ascontiguousarray(weight).reshape(-1)
    for start in range(0, weight.size, PART):
        wide = np.array(single(whole[start : start + PART]))
        lost, bits = np.isnan(wide), wide.view(np.uint32)
        odd = bits >> 16
        odd &= 1
        odd += 0x7FFF
        bits += odd
        bits >>= 16
        bits[lost] = 0x7FC0  # rounding up could carry a NaN's lowest bits to infinity
        found[start : start + PART] = bits
    return found.reshape(weight.shape)


class Dense(Product):
    """fp32, fp16 or bf16 [n, k] as it was given, without a copy where it is contiguous: a file's mapped bytes are multiplied in place."""

    def __init__(self, function: Function, weight: Array) -> None:
        if weight.dtype not in TYPES or weight.ndim != 2:
            raise ValueError(f"a matrix in fp32, fp16 or bf16 (as uint16), not {weight.dtype} {weight.shape}")
        self.weight = np.ascontiguousarray(weight)
        n, k = weight.shape
        super().__init__(function, DenseMatrix(address(self.weight), n, k, TYPES[weight.dtype]), n, k, (self.weight,))

    def select(self, index: NDArray[np.int64]) -> Floats:
        self._check(index)
        return single(self.weight[index])


class Blocks(Product):
    """value = scale · (code - offset), or scale · code + offset, repacked for the C functions (csrc/kernels.h has the layout)."""

    def __init__(self, function: Function, codes: Array, scale: Array, offset: Array | None, bits: int, *, added: bool) -> None:
        _check_blocks(codes, scale, offset, bits)
        n, k = codes.shape
        self.blocks = scale.shape[1]
        self.width = k // self.blocks
        self.bits = 4 if bits <= 4 else 8
        self.added = added
        self.zero = 1 << (bits - 1) if codes.dtype == np.int8 else 0
        self.codes = _pack(_unsigned(codes, bits, self.zero), self.blocks, self.bits)
        narrow = _is_half(scale) and (offset is None or _is_half(offset))
        self.scale = _grouped(scale, narrow)
        self.offset = None if offset is None else _grouped(offset, narrow)
        parts = (self.codes, self.scale) if self.offset is None else (self.codes, self.scale, self.offset)
        pointers = address(self.codes), address(self.scale), None if self.offset is None else address(self.offset)
        matrix = BlockMatrix(*pointers, n, k, self.blocks, self.width, self.bits, self.zero, not narrow, added)
        super().__init__(function, matrix, n, k, parts)

    def select(self, index: NDArray[np.int64]) -> Floats:
        self._check(index)
        group, row = index // GROUP, index % GROUP
        packed = self.codes[group, :, :, row]  # [T, blocks·tiles, bits, 4]
        tiles = packed if self.bits == 8 else np.concatenate([packed & 15, packed >> 4], 2)
        flat = tiles.reshape(len(index), self.blocks, -(-self.width // TILE) * TILE)
        codes = flat[:, :, : self.width].astype(np.float32) - np.float32(self.zero)
        scale = single(self.scale[group, :, row, None])
        offset = np.float32(0) if self.offset is None else single(self.offset[group, :, row, None])
        values: Floats = codes * scale + offset if self.added else (codes - offset) * scale
        return values.reshape(len(index), self.k)


@dataclass(frozen=True)
class Kernels:
    """The products of one variant. Weights stay where they are; errors as stated above. prompt_function: None where there are no matrix units."""

    variant: str
    dense_function: Function
    blocks_function: Function
    step_function: Step
    prompt_function: Prompt | None = None

    def dense(self, weight: Array) -> Dense:
        """weight: fp32, fp16 or bf16 (as uint16) [N, K], kept as it is if contiguous. Activations and sums are fp32. Raises ValueError."""
        return Dense(self.dense_function, weight)

    def blocks(self, codes: Array, scale: Array, offset: Array | None, bits: int, *, added: bool = False) -> Blocks:
        """value = scale · (code - offset), or where the offset is `added` scale · code + offset.

        codes: int8 or uint8 [N, K], one code in each, in the range of `bits` (1 to 8; stored in 4 or 8). scale: fp16 or fp32 [N, K/B] for any B
        that divides K. offset: any real type, the same shape, or None. Raises ValueError, for a code outside its range too.
        """
        return Blocks(self.blocks_function, codes, scale, offset, bits, added=added)


def _check_blocks(codes: Array, scale: Array, offset: Array | None, bits: int) -> None:
    """Raises ValueError: callers read shapes and types from a validated program."""
    if codes.dtype not in (np.int8, np.uint8) or codes.ndim != 2 or not codes.size or not 1 <= bits <= 8:
        raise ValueError(f"a matrix of int8 or uint8 codes of 1 to 8 bits, not {codes.dtype} {codes.shape} of {bits}")
    if scale.ndim != 2 or len(scale) != len(codes) or not scale.size or codes.shape[1] % scale.shape[1]:
        raise ValueError(f"a scale per row and block of a matrix {codes.shape}, not {scale.shape}")
    if scale.dtype not in (np.float16, np.float32):
        raise ValueError(f"scales in fp16 or fp32, not {scale.dtype}")
    if offset is not None and offset.shape != scale.shape:
        raise ValueError(f"offsets as scales, {scale.shape}, not {offset.shape}")


def _unsigned(codes: Array, bits: int, zero: int) -> NDArray[np.uint8]:
    """uint8 [n, k] from 0, contiguous. Raises ValueError for a code that has more bits."""
    raised: NDArray[np.uint8] = np.ascontiguousarray(codes).view(np.uint8)
    if zero:
        raised = np.add(raised, np.uint8(zero))  # modulo 256, as signed codes are in two's complement
    if bits < 8 and int(np.max(raised)) >> bits:
        raise ValueError(f"a code needs more than {bits} bits")
    return raised


def _pack(codes: NDArray[np.uint8], blocks: int, bits: int) -> NDArray[np.uint8]:
    """uint8 [n, k] → [groups, blocks·tiles, bits, 16, 4]."""
    n, k = codes.shape
    width = k // blocks
    if width % TILE:
        codes = np.pad(codes.reshape(n, blocks, width), ((0, 0), (0, 0), (0, -width % TILE))).reshape(n, -1)
    if n % GROUP:
        codes = np.pad(codes, ((0, -n % GROUP), (0, 0)))
    if bits == 4:
        halves = codes.reshape(len(codes), -1, 2, 16)
        codes = np.bitwise_or(halves[:, :, 0], np.left_shift(halves[:, :, 1], np.uint8(4))).reshape(len(codes), -1)
    words = codes.view(np.uint32).reshape(len(codes) // GROUP, GROUP, -1)
    packed = np.ascontiguousarray(words.transpose(0, 2, 1)).view(np.uint8)
    return packed.reshape(len(words), -1, bits, GROUP, 4)


def _is_half(factors: Array) -> bool:
    """Whether fp16 holds every value exactly."""
    with np.errstate(over="ignore"):
        return factors.dtype == np.float16 or np.array_equal(factors.astype(np.float16).astype(np.float32), factors.astype(np.float32))


def _grouped(factors: Array, narrow: bool) -> Array:
    """[n, blocks] → [groups, blocks, 16], fp16 or fp32."""
    typed = factors.astype(np.float16 if narrow else np.float32)
    padded = np.pad(typed, ((0, -len(typed) % GROUP), (0, 0)))
    return np.ascontiguousarray(padded.reshape(-1, GROUP, typed.shape[1]).transpose(0, 2, 1))
