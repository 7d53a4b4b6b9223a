"""docs/compat.md is what the table says."""

from __future__ import annotations

import runpy
from pathlib import Path


def test_the_page_is_made_of_the_table(root: Path) -> None:
    script = runpy.run_path(str(root / "ci" / "compat_page.py"))
    made = script["page"](script["table"].load())
    assert script["PAGE"].read_text(encoding="utf-8") == made, f"docs/compat.md is out of date: run `{script['REPAIR']}`"
