"""The tables of rotary positions without torch are those of the student."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.students import tiny_student

from runtime.backends.rotation import rotation_tables
from runtime.student.rope import rope_tables

LINEAR = {"kind": "linear", "factor": 4.0}
LLAMA3 = {"kind": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position": 64}


@pytest.mark.parametrize("scaling", [None, LINEAR, LLAMA3], ids=["plain", "linear", "llama3"])
@pytest.mark.parametrize("theta", [1e4, 1e5, 5e5])
def test_tables_are_the_students(scaling: dict[str, Any] | None, theta: float) -> None:
    """A frequency that is a unit in the last place off, 2^-24, turns position 2000 by 2000 times that."""
    arch = tiny_student(n_layers=1, d_head=64, rope_scaling=scaling, rope_theta=theta, max_position=2000).arch
    for found, expected in zip(rotation_tables(arch), rope_tables(arch), strict=True):
        assert found.shape == expected.shape and found.dtype == np.float32
        assert np.abs(found - expected.numpy()).max() < 2000 * 2.0**-23
        assert np.abs(found[:2] - expected.numpy()[:2]).max() < 1e-6
