"""docs/doctor.md has a row for each check, in the group that the check is in, and for no other."""

from __future__ import annotations

import re

import pytest

from interlock.environments import ROOT
from pipeline.doctor.checks import OF_ARTIFACT, OF_MACHINE

pytestmark = pytest.mark.train
PAGE = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")


def test_the_page_has_a_row_for_each_check_and_no_other() -> None:
    sections = re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    groups = {title.lower(): re.findall(r"^\| `([\w-]+)`", rows, re.M) for title, rows in sections}
    wanted: dict[str, list[str]] = {}
    for check in OF_MACHINE + OF_ARTIFACT:
        wanted.setdefault(check.group, []).append(check.name)
    assert groups == wanted, "docs/doctor.md: a row for each check, in the order of pipeline/doctor/checks.py"


@pytest.mark.parametrize("check", OF_MACHINE + OF_ARTIFACT, ids=lambda check: check.name)
def test_every_check_is_there_to_be_called(check) -> None:  # type: ignore[no-untyped-def]  # Check
    assert callable(check.look()) and len(check.call.rpartition(":")[2]) > 1
