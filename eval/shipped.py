"""Suites by name or by path: those that come with interlock, and files of your own.

Here: reading, strictly. Not here: the fields (suite.py). What asks and what scores does not import this: a threshold that changes asks nothing anew.
"""

from __future__ import annotations

from pathlib import Path

from eval.suite import Suite
from interlock.contracts.strict import validate
from interlock.environments import read_toml
from interlock.errors import UsageError, refuse

FOLDER = Path(__file__).parent / "suites"
MAX_BYTES = 1 << 20
REMEDY = "correct the suite; its fields are in docs/evaluation.md"


def shipped() -> list[str]:
    """The names of the suites that come with interlock."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def read_suite(name: str) -> Suite:
    """A suite by its name, or by the path of a file. Raises UsageError and ContractError."""
    file = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not file.is_file() or (not name.endswith(".toml") and name not in shipped()):
        from difflib import get_close_matches

        near = get_close_matches(name, shipped(), 1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        known = ", ".join(shipped())
        raise UsageError(f"there is no suite `{name}`{hint}", remedy=f"there are {known}; a file of your own is named by its path (NAME.toml)")
    if file.stat().st_size > MAX_BYTES:
        raise refuse(file, "", expected=f"at most {MAX_BYTES} bytes", found=str(file.stat().st_size), remedy=REMEDY)
    try:
        document = read_toml(file)
    except (ValueError, RecursionError) as error:
        raise refuse(file, "", expected="a TOML file in UTF-8", found=str(error) or "nesting without end", remedy=REMEDY) from None
    return validate(Suite, {"name": file.stem, **document}, str(file), remedy=REMEDY)
