"""Operations against coremltools' own constant folding, wherever it has one: the definition that the converter itself relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.programs import constant, evaluate

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore")]
RNG = np.random.default_rng(0)
X = RNG.uniform(0.1, 0.9, (2, 3, 4)).astype(np.float32)
Y = RNG.uniform(0.1, 0.9, (3, 1)).astype(np.float32)
WHOLE = RNG.integers(-5, 6, (2, 3, 4)).astype(np.int32)
UNARY = ("abs", "acos", "asin", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp", "exp2", "floor", "round", "sign", "sin", "sinh", "sqrt",
         "square", "tan", "tanh", "relu", "relu6", "sigmoid", "softplus", "softsign", "identity")  # fmt: skip
BINARY = ("add", "sub", "mul", "real_div", "floor_div", "mod", "pow", "maximum", "minimum")
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {"x": X}) for name in UNARY),
    *((name, {"x": X, "y": Y}) for name in BINARY),
    *((name, {"x": WHOLE, "y": np.int32(3)}) for name in ("add", "sub", "mul", "floor_div", "mod", "maximum", "minimum", "real_div")),
    ("rsqrt", {"x": X, "epsilon": 0.1}),
    ("inverse", {"x": X, "epsilon": 0.1}),
    ("log", {"x": X, "epsilon": 0.1}),
    ("clip", {"x": X, "alpha": 0.2, "beta": 0.5}),
    ("threshold", {"x": X, "alpha": 0.4}),
    ("elu", {"x": X - 0.5, "alpha": 0.7}),
    ("gelu", {"x": X - 0.5, "mode": "EXACT"}),
    ("gelu", {"x": X - 0.5, "mode": "TANH_APPROXIMATION"}),
    ("gelu", {"x": X - 0.5, "mode": "SIGMOID_APPROXIMATION"}),
    ("leaky_relu", {"x": X - 0.5, "alpha": 0.3}),
    ("clamped_relu", {"x": X - 0.5, "alpha": 0.3, "beta": 0.2}),
    ("linear_activation", {"x": X, "alpha": 0.3, "beta": 0.2}),
    ("scaled_tanh", {"x": X, "alpha": 0.3, "beta": 0.2}),
    ("sigmoid_hard", {"x": X, "alpha": 0.3, "beta": 0.2}),
    ("thresholded_relu", {"x": X, "alpha": 0.3}),
    ("softmax", {"x": X, "axis": 1}),
    ("linear", {"x": X, "weight": RNG.normal(0, 1, (5, 4)).astype(np.float32), "bias": RNG.normal(0, 1, 5).astype(np.float32)}),
    ("matmul", {"x": X, "y": RNG.normal(0, 1, (5, 4)).astype(np.float32), "transpose_x": False, "transpose_y": True}),
    ("layer_norm", {"x": X, "axes": (2,), "gamma": np.ones(4, np.float32) * 2, "beta": np.ones(4, np.float32), "epsilon": 1e-3}),
    ("l2_norm", {"x": X, "epsilon": 1e-3}),
    ("argsort", {"x": X, "axis": 1, "ascending": True}),
    ("band_part", {"x": X, "lower": 1, "upper": 0}),
    ("transpose", {"x": X, "perm": (2, 0, 1)}),
    ("reshape", {"x": X, "shape": (4, -1, 3)}),
    ("expand_dims", {"x": X, "axes": (0, -1)}),
    ("squeeze", {"x": X.reshape(2, 1, 12), "axes": (1,)}),
    ("tile", {"x": X, "reps": (1, 2, 3)}),
    ("reverse", {"x": X, "axes": (0, 2)}),
    ("flatten2d", {"x": X, "axis": 2}),
    ("pad", {"x": X, "pad": (1, 2, 0, 1), "mode": "reflect", "constant_val": 0.0}),
    ("pad", {"x": X, "pad": (1, 2), "mode": "constant", "constant_val": 3.0}),
    ("slice_by_index", {"x": X, "begin": (0, -2, 3), "end": (2, 3, 0), "stride": (1, 1, -2), "end_mask": (False, True, False)}),
    ("slice_by_size", {"x": X, "begin": (0, 1, 2), "size": (2, -1, 1)}),
    ("slice_update", {"x": X, "update": -X[:, :1], "begin": (0, 1, 0), "end": (2, 2, 4)}),
    ("gather", {"x": X, "indices": np.array([[2, 0], [1, 1]], np.int32), "axis": 1}),
    ("gather_along_axis", {"x": X, "indices": np.zeros((2, 3, 1), np.int32), "axis": 2}),
    ("select", {"cond": X > 0.5, "a": X, "b": -X}),
    ("scaled_dot_product_attention", {"query": X[None], "key": X[None], "value": X[None]}),
    ("non_zero", {"x": np.where(X > 0.5, X, 0)}),
    ("reduce_argmax", {"x": X, "axis": 1, "keep_dims": True}),
    ("shape", {"x": X}),
]


@pytest.mark.parametrize(("name", "given"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_operations_equal_constant_folding(name: str, given: dict[str, Any]) -> None:
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, types

    with Function({}, opset_version=ct.target.iOS18):
        built = getattr(mb, name)(**{key: np.array(value) if isinstance(value, tuple) else value for key, value in given.items()})
    expected = np.asarray(built.val)
    assert built.val is not None, "no constant folding for this case"
    kind = types.builtin_to_string(built.dtype)
    found = evaluate(name, out=(kind,), **{key: constant(value) if isinstance(value, np.generic) else value for key, value in given.items()})
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


TYPES = (np.float16, np.int32, np.int16, np.uint16, np.int8, np.uint8)


@pytest.mark.parametrize(("name", "given"), [case for case in CASES if "x" in case[1]], ids=lambda value: value if isinstance(value, str) else "")
def test_operations_equal_constant_folding_in_every_type(name: str, given: dict[str, Any]) -> None:
    """The same cases with the array in each type that the operation accepts; where coremltools folds nothing there is nothing to compare."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, types

    for dtype in TYPES:
        arrays = {
            key: _typed(value, dtype) if key in ("x", "y", "update", "weight", "bias", "gamma", "beta") else value for key, value in given.items()
        }
        try:
            with Function({}, opset_version=ct.target.iOS18):
                built = getattr(mb, name)(**{key: np.array(value) if isinstance(value, tuple) else value for key, value in arrays.items()})
        except (ValueError, TypeError):
            continue
        if built.val is None:
            continue
        kind = types.builtin_to_string(built.dtype)
        parameters = {key: constant(value) if isinstance(value, np.generic) else value for key, value in arrays.items()}
        found = evaluate(name, out=(kind,), executor="fp16", **parameters)
        loose = 2**-8 if kind == "fp16" else 2e-5
        np.testing.assert_allclose(
            np.asarray(found, np.float64), np.asarray(built.val, np.float64), rtol=loose, atol=loose, err_msg=f"{name} {dtype}"
        )


def _typed(value: Any, dtype: Any) -> Any:
    """Small whole numbers where the type has only these."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    scaled = np.asarray(value, np.float64) * (1 if np.issubdtype(dtype, np.floating) else 9)
    return dtype(abs(scaled)) if isinstance(value, np.generic) else abs(scaled).astype(dtype)
