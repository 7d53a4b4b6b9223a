"""A recipe may tighten a gate and nothing else."""

from __future__ import annotations

import pytest

from interlock.contracts.package import Thresholds
from interlock.errors import UsageError


def test_stricter_thresholds_are_taken_and_looser_ones_named() -> None:
    from pipeline.gates.thresholds import THRESHOLDS, tightened

    for method, standard in THRESHOLDS.items():
        assert tightened(standard, method) == standard
    strict = Thresholds(psnr_db=60, kl_mean=1e-5, kl_max=1e-4)
    assert tightened(strict, "none") == strict
    for change in ({"psnr_db": 49.9}, {"kl_mean": 2e-4}, {"kl_max": 2e-3}, {"psnr_db": float("nan")}, {"kl_max": float("nan")}, {"kl_mean": -1.0}):
        with pytest.raises(UsageError, match=next(iter(change))):
            tightened(strict.model_copy(update=change), "none")
    tightened(THRESHOLDS["int8"], "int4")
    with pytest.raises(UsageError):
        tightened(THRESHOLDS["int8"], "source")
