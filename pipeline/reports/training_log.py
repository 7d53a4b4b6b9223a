"""The log in a trained checkpoint, read back: the lines of its steps.

Here: reading what may come from anywhere. Not here: the record of a line (pipeline/training/told.py), its curves (training.py).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from interlock.contracts import io
from interlock.contracts.base import Contract
from interlock.errors import refuse
from pipeline.training.told import LOG, Line

# A million steps; a longer log is shown as what it is not.
MAX_BYTES = 512 << 20
REMEDY = "copy the artifact again, or train it again"


def lines_of(directory: Path, contract: Contract) -> list[Line]:
    """Every line of the log that `contract` lists; none where it lists none. Raises ContractError for another file, and for what is no line."""
    entry = next((entry for entry in contract.files if entry.path == LOG), None)
    if entry is None or entry.bytes > MAX_BYTES:
        return []
    file = directory / LOG
    if (found := io.sha256_file(file)) != entry.sha256:
        raise refuse(file, "", expected=f"sha256 {entry.sha256}", found=found, remedy=REMEDY)
    with io.open_regular(file) as stream:
        return [_line(text, file, number) for number, text in enumerate(stream, 1)]


def _line(text: bytes, file: Path, number: int) -> Line:
    try:
        return msgspec.json.decode(text, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise refuse(file, "", expected=f"a step of a training in line {number}", found=problem, remedy=REMEDY) from None
