"""Products against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.programs import evaluate

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (1, 0, 4)])
def test_linear(lead: tuple[int, ...]) -> None:
    x, weight, bias = normal(*lead, 5), normal(7, 5), normal(7)
    np.testing.assert_allclose(evaluate("linear", x=x, weight=weight, bias=bias), x @ weight.T + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("first", "second"), [((2, 3), (3, 4)), ((5, 1, 2, 3), (6, 3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 3, 4))])
@pytest.mark.parametrize("flip", [False, True])
def test_matmul(first: tuple[int, ...], second: tuple[int, ...], flip: bool) -> None:
    x, y = normal(*first), normal(*second)
    stored_x, stored_y = (np.swapaxes(part, -1, -2).copy() if flip and part.ndim > 1 else part for part in (x, y))
    found = evaluate("matmul", x=stored_x, y=stored_y, transpose_x=flip, transpose_y=flip)
    np.testing.assert_allclose(found, x @ y, rtol=1e-4, atol=1e-5)


def test_einsum() -> None:
    x, y = normal(2, 3, 4, 5), normal(2, 5, 4, 6)
    found = evaluate("einsum", values=[x, y], equation="nchw,nwhu->nchu")
    np.testing.assert_allclose(found, np.einsum("nchw,nwhu->nchu", x, y), rtol=1e-4, atol=1e-5)
