"""What a method makes of a weight, and what else a search may give it.

Here: one table. Not here: the arithmetic (linear.py, palette.py), the search (assignment.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.contracts.package import Method
from pipeline.coreml.compression.gguf_blocks import snr_db
from pipeline.coreml.compression.linear import linear
from pipeline.coreml.compression.palette import palette
from pipeline.coreml.compression.stored import Form

Make = Callable[[NDArray[np.float16]], Form]
# Elements per scale, or rows per table, where --group is not given; 0: one for a row, or for all rows. coremltools' presets.
GROUPS: dict[Method, int] = {"int8": 0, "int4": 32, "palette4": 16, "palette6": 0, "palette8": 0}
FINE = 32
# A row of normal numbers keeps 41 to 43 dB in int8: its greatest is 3.2 to 3.6 deviations, and a step is a 127th of that. Less means outliers that
# cost all of their row; blocks confine them (measured on SmolLM2: the embedding alone causes half of the divergence, and blocks remove it).
PLAIN_SNR_DB = 40.0


def maker(method: Method, group: int | None) -> Make:
    """The form of a weight by a method that needs nothing but its values. group: None for the method's own, 0 for none."""
    if method == "int8" and group is None:
        return _int8
    bits: Any = int(method[-1])
    kind: Any = palette if method.startswith("palette") else linear
    size = GROUPS[method] if group is None else group
    return lambda values: kind(values, bits, size)


def finer(method: Method, group: int | None) -> list[Make]:
    """The forms that a search chooses among, from the coarsest; fp16 comes beside them."""
    eight: list[Make] = [lambda values: linear(values, 8, 0), lambda values: linear(values, 8, FINE)]
    return eight if method == "int8" and group is None else [maker(method, group), *eight]


def _int8(values: NDArray[np.float16]) -> Form:
    """A scale per row, or per block where a row's outliers need it."""
    coarse = linear(values, 8, 0)
    return coarse if snr_db(values.astype(np.float32), coarse.values().astype(np.float32)) >= PLAIN_SNR_DB else linear(values, 8, FINE)
