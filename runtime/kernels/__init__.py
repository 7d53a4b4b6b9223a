"""Matrix products on weights as they are stored, in C: floats, and 8- and 4-bit integers with a scale per block of columns; whole steps of a decoder.

    kernels = load()
    if kernels is None:
        print(why())                              # no compiler, for example: the caller widens and uses torch
    else:
        head = kernels.blocks(codes, scale, None, bits=8)
        logits = head.vector(hidden)              # [K] fp32 → [N] fp32, numpy arrays: torch is not imported here

Here: the C source (csrc, one file per instruction set), its compilation and cache (build.py), its proof at load (proof.py), the products
(products.py), a step (decoder.py). Not here: products by torch (runtime/backends/products.py), how a model's weights are held, the fallback.
Why C: one token reads every weight once, so time is bytes over memory speed; no installable library multiplies packed integers with scales
and offsets per block exactly at that speed (the nearest takes 1.6 times as long).
"""

from runtime.kernels.library import load, why
from runtime.kernels.products import Kernels, Product

__all__ = ["Kernels", "Product", "load", "why"]
