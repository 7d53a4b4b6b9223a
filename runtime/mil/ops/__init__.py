"""The operations of ML Programs, one module per family. Importing this package fills the table in registry.py."""

from runtime.mil.ops import (
    activation,
    attention,
    constexpr,
    conv,
    elementwise,
    gather,
    image,
    linear,
    norm,
    quantization,
    random,
    recurrent,
    reduce,
    shape,
    slices,
)

__all__ = [
    "activation",
    "attention",
    "constexpr",
    "conv",
    "elementwise",
    "gather",
    "image",
    "linear",
    "norm",
    "quantization",
    "random",
    "recurrent",
    "reduce",
    "shape",
    "slices",
]
