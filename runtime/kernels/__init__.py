"""Matrix products on weights as a package stores them, in C: fp16, and 8- and 4-bit integers with a scale per block of columns.

    kernels = load()
    if kernels is None:
        print(why())                              # no compiler, for example: the caller widens and uses torch
    else:
        head = kernels.blocks(codes, scale, None, bits=8)
        logits = head.vector(hidden)              # [K] fp32 → [N] fp32

Here: the C source (csrc, one file per instruction set), its compilation and cache (build.py), its proof at load (proof.py), the products
(products.py). Not here: products in fp32 and bf16 by torch (runtime/backends/products.py), which product a model uses, the fallback.
Why C: one token reads every weight once, so time is bytes over memory speed; no installable library multiplies packed integers with scales
and offsets per block exactly at that speed (the nearest takes 1.6 times as long).
"""

from runtime.kernels.library import load, why
from runtime.kernels.products import Kernels, Product

__all__ = ["Kernels", "Product", "load", "why"]
