"""What may be compared: evaluations of the same questions, whichever version of interlock made their dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock.errors import ContractError
from pipeline.verbs.baseline.compare import _check_comparable

pytestmark = pytest.mark.train


def rows(*names: str, given: str = "?", wanted: str = "1") -> list[dict[str, Any]]:
    return [{"id": name, "given": given, "wanted": wanted} for name in names]


def test_the_same_questions_are_compared_and_some_of_them_are_enough() -> None:
    _check_comparable(Path("new"), ("smoke", rows("a", "b")), ("smoke", rows("b", "c")))


@pytest.mark.parametrize(
    ("suite", "before", "where"),
    [
        ("needles", rows("a"), "/suite"),
        ("smoke", rows("c"), ""),
        ("smoke", rows("a", given="another question"), "a"),
        ("smoke", rows("a", wanted="another answer"), "a"),
    ],
)
def test_other_questions_are_refused(suite: str, before: list[dict[str, Any]], where: str) -> None:
    with pytest.raises(ContractError) as refused:
        _check_comparable(Path("new"), ("smoke", rows("a", "b")), (suite, before))
    assert [one.where for one in refused.value.violations] == [where]
