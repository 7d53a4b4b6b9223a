"""The budget's own rules; that it is asked, and what becomes of a package that it refuses, is interlock's to test."""

from __future__ import annotations

import pytest
from interlock_smoke.budget import Params
from pydantic import ValidationError


def test_a_budget_without_a_bound_is_no_budget() -> None:
    with pytest.raises(ValidationError, match="needs max_bytes or max_weight_bytes"):
        Params()


@pytest.mark.parametrize("bound", [0, -1, 1.5, "1000"])
def test_a_bound_is_a_whole_number_of_bytes(bound: object) -> None:
    with pytest.raises(ValidationError):
        Params.model_validate({"max_bytes": bound})
