"""Whether a variant computes what numpy computes, on small matrices, before anything relies on it.

Here: products of a few shapes that meet every branch, in a few milliseconds. Not here: a step (proof_step.py), the full range of
shapes and values (the tests).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.products import BRAIN, TYPES, Kernels, Product, brain, single

# Far above the error model of products.py for these shapes (1e-5), far below what one wrong code, scale or column makes (1e-3 and more).
TOLERANCE = 1e-4
# Rows of the weight, columns, blocks, rows of activations: an odd everything; whole groups and tiles; long rows in blocks with a padded tile,
# and every size of a panel (8 + 4 + 2 + 1).
SHAPES = ((5, 37, 1, 3), (32, 64, 2, 1), (21, 480, 12, 15))


def mismatch(kernels: Kernels) -> str | None:
    """What is wrong with this variant, or None."""
    random = np.random.default_rng(4)
    for n, k, blocks, rows in SHAPES:
        x = random.standard_normal((rows, k)).astype(np.float32)
        for dtype in TYPES:
            drawn = random.standard_normal((n, k)).astype(np.float32)
            weight = brain(drawn) if dtype == BRAIN else drawn.astype(dtype)
            if problem := _compare(kernels.dense(weight), single(weight).astype(np.float64), x):
                return f"{dtype} [{n}, {k}]: {problem}"
        for bits in (4, 8):
            if problem := _blocks(kernels, random, bits, (n, k, blocks), x):
                return f"{bits} bits [{n}, {k}]: {problem}"
    return None


def _blocks(kernels: Kernels, random: np.random.Generator, bits: int, shape: tuple[int, int, int], x: NDArray[np.float32]) -> str | None:
    """One signed product without offset in fp32, one unsigned with offset in fp16, and one with the offset added."""
    n, k, blocks = shape
    scale = random.random((n, blocks)).astype(np.float32) + 0.1
    narrow = scale.astype(np.float16)
    offset = (random.random((n, blocks)) * 8).astype(np.float16)
    unsigned = random.integers(0, 1 << bits, (n, k)).astype(np.uint8)
    signed = (unsigned.astype(np.int16) - (1 << (bits - 1))).astype(np.int8)
    plain = kernels.blocks(signed, scale, None, bits)
    shifted = kernels.blocks(unsigned, narrow, offset, bits)
    added = kernels.blocks(unsigned, narrow, offset, bits, added=True)
    wide = [np.repeat(values.astype(np.float64), k // blocks, 1) for values in (scale, narrow, offset)]
    return (
        _compare(plain, wide[0] * signed, x)
        or _compare(shifted, wide[1] * (unsigned - wide[2]), x)
        or _compare(added, wide[1] * unsigned + wide[2], x)
    )


def _compare(product: Product, weight: NDArray[np.float64], x: NDArray[np.float32]) -> str | None:
    """weight: the same in fp64, [n, k]."""
    limit = TOLERANCE * (np.abs(x) @ np.abs(weight).T)
    expected = x.astype(np.float64) @ weight.T
    if not (np.abs(product.rows(x) - expected) <= limit).all() or not (np.abs(product.vector(x[0]) - expected[0]) <= limit[0]).all():
        return "a product differs from numpy's"
    if not np.allclose(product.select(np.arange(product.n)), weight, rtol=1e-6, atol=1e-6):
        return "a row differs from its values"
    poisoned = x.copy()
    poisoned[0, -1] = np.nan
    if not np.isnan(product.rows(poisoned)[0]).all():
        return "NaN is lost"
    return None
