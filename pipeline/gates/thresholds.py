"""What exported files must reach, and a package, by how its weights are stored. docs/error-model.md says where the figures come from.

Here: the figures, and what a recipe may ask for. Not here: measuring and judging (package.py).
"""

from __future__ import annotations

from interlock.contracts.package import Method, Thresholds
from interlock.errors import UsageError

# Exported files. Rounding the weights to fp16 alone leaves 73 to 81 dB on SmolLM2-135M and 69.6 to 76 dB on random toys; with weights that fp16
# holds, the files reach 130 dB; a wrong mask, position or layer stays below 40 dB.
EXPORTED_PSNR_DB = 70.0
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


def tightened(asked: Thresholds, method: Method) -> Thresholds:
    """`asked`, which may only be at least as strict as the table's. Raises UsageError with every one that is not."""
    wanted, least = asked.model_dump(), THRESHOLDS[method].model_dump()
    strict = {name: 0 <= wanted[name] <= least[name] for name in ("kl_mean", "kl_max")} | {"psnr_db": wanted["psnr_db"] >= least["psnr_db"]}
    if loose := [f"`{name}` {wanted[name]:g} (standard {least[name]:g})" for name, fits in strict.items() if not fits]:
        raise UsageError(f"a gate may only be tightened: {', '.join(loose)}", remedy="leave these out, or give stricter ones")
    return asked
