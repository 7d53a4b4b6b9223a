"""What a package must reach, by how its weights are stored. docs/error-model.md says where the figures come from.

Here: one table. Not here: measuring and judging (package.py).
"""

from __future__ import annotations

from interlock.contracts.package import Method, Thresholds

# Nothing but fp16 rounding: of weights, and of every value between.
FAITHFUL = Thresholds(psnr_db=50.0, kl_mean=1e-4, kl_max=1e-3)
EIGHT_BITS = Thresholds(psnr_db=40.0, kl_mean=5e-3, kl_max=5e-2)
FOUR_BITS = Thresholds(psnr_db=30.0, kl_mean=5e-2, kl_max=0.5)
# `source` changes no weight beyond fp16 rounding, so nothing is granted to it.
THRESHOLDS: dict[Method, Thresholds] = {
    "none": FAITHFUL,
    "source": FAITHFUL,
    "int8": EIGHT_BITS,
    "palette8": EIGHT_BITS,
    "palette6": FOUR_BITS,
    "int4": FOUR_BITS,
    "palette4": FOUR_BITS,
}
