"""What a method makes of a weight, and what else a search may give it.

Here: one table. Not here: the arithmetic (linear.py, palette.py), the search (assignment.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.contracts.package import Method
from pipeline.coreml.compression.linear import linear
from pipeline.coreml.compression.palette import palette
from pipeline.coreml.compression.stored import Form
from pipeline.coreml.compression.symmetric import INT4_BLOCK, INT8_BLOCK

Make = Callable[[NDArray[np.float16]], Form]
# Elements per scale, or rows per table, where --group is not given; 0: one for a row, or for all rows. Palettes: coremltools' presets.
GROUPS: dict[Method, int] = {"int8": INT8_BLOCK, "int4": INT4_BLOCK, "palette4": 16, "palette6": 0, "palette8": 0}
FINE = 32


def maker(method: Method, group: int | None) -> Make:
    """The form of a weight by a method that needs nothing but its values. group: None for the method's own, 0 for none."""
    bits: Any = int(method[-1])
    kind: Any = palette if method.startswith("palette") else linear
    size = GROUPS[method] if group is None else group
    return lambda values: kind(values, bits, size)


def finer(method: Method, group: int | None) -> list[Make]:
    """The forms that a search chooses among, from the coarsest; fp16 comes beside them."""
    eight: list[Make] = [lambda values: linear(values, 8, 0), lambda values: linear(values, 8, FINE)]
    return [maker(method, group), *eight]
