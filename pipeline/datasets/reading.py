"""Reading rows: strict JSON on every line, and every violation with its file and line.

Here: from untrusted bytes to rows, one file or one split. Not here: the fields of a row (rows.py), the proof of the files by their digests
(pipeline/driver/stage.py), what is wrong between rows (check.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from interlock.contracts.dataset import DatasetContract
from interlock.contracts.io import open_regular
from interlock.contracts.strict import MAX_SHOWN, parse_json, validated
from interlock.errors import ContractError, UsageError, Violation
from interlock.voice import Voice
from pipeline.datasets.rows import Row

MAX_LINE = 4 << 20  # bytes of one row: a million tokens of text
REMEDY = "mend or remove the rows that are named, or make the dataset again: `interlock data make`, `interlock data import`"
# Terms of service of teachers forbid to train on it: no row may carry it, wherever it stands in the row.
FORBIDDEN = "teacher_reasoning_content"


@dataclass(frozen=True)
class Line:
    """One line of a file, from 1 on: its row, or what is wrong with it."""

    number: int
    row: Row | None
    wrong: tuple[Violation, ...]


def read_split(directory: Path, contract: DatasetContract, name: str, voice: Voice) -> tuple[Row, ...]:
    """All rows of one split of a dataset whose files are proven, in order.

    Raises UsageError where there is no such split, and ContractError with the file and line of every violation.
    """
    if name not in contract.splits:
        raise UsageError(f"`{directory}` has no split `{name}`", remedy=f"it has {', '.join(contract.splits)}")
    split = contract.splits[name]
    rows: list[Row] = []
    wrong: list[Violation] = []
    ids: dict[str, str] = {}
    with voice.task(f"read {name}", split.rows, "rows") as task:
        for path, line in _lines_of(directory, split.files):
            wrong += line.wrong
            if line.row is not None:
                wrong += seen_before(ids, path, line.number, line.row.id)
                rows.append(line.row)
            if len(wrong) >= MAX_SHOWN:
                break
            task.advance()
    if wrong:
        raise ContractError(*wrong[:MAX_SHOWN], remedy=REMEDY)
    if len(rows) != split.rows:
        where = f"/splits/{name}/rows"
        raise ContractError(Violation(str(directory), where, f"{split.rows} rows, as the contract says", str(len(rows))), remedy=REMEDY)
    return tuple(rows)


def read_lines(file: Path) -> Iterator[Line]:
    """The lines of a file as rows, each of at most MAX_LINE bytes. Raises ContractError for what is no regular file."""
    with open_regular(file) as stream:
        for number in itertools.count(1):
            data = stream.readline(MAX_LINE + 1)
            if not data:
                return
            yield _read_line(file, number, data)
            if len(data) > MAX_LINE:
                return  # where the next one starts is anybody's guess


def _lines_of(directory: Path, files: tuple[str, ...]) -> Iterator[tuple[Path, Line]]:
    for file in files:
        for line in read_lines(directory / file):
            yield directory / file, line


def seen_before(ids: dict[str, str], file: Path, number: int, name: str) -> list[Violation]:
    """What is wrong with an id that came before; `ids` has the place of each."""
    place = f"{file.name} line {number}"
    first = ids.setdefault(name, place)
    return [] if first == place else [Violation(str(file), f"line {number} /id", "an id of its own", f"that of {first}")]


def _read_line(file: Path, number: int, data: bytes) -> Line:
    def bad(wrong: Iterator[Violation]) -> Line:
        return Line(number, None, tuple(Violation(str(file), f"line {number} {one.where}".strip(), one.expected, one.found) for one in wrong))

    if not data.strip():
        return bad(iter([Violation("", "", "one JSON object", "an empty line")]))
    try:
        document = parse_json(data, str(file), limit=MAX_LINE, remedy=REMEDY)
    except ContractError as error:
        return bad(iter(error.violations))
    # An escape can spell a letter of the name.
    if (FORBIDDEN.encode() in data or b"\\u" in data) and (places := list(_forbidden(document, ""))):
        return bad(Violation("", where, "no reasoning of a teacher: its terms forbid to train on it", f"`{FORBIDDEN}`") for where in places)
    try:
        return Line(number, Row.model_validate_json(data), ())  # the strict parser has taken these bytes; pydantic reads them again, much faster
    except ValidationError:
        return bad(iter(validated(Row, document, str(file))[1]))


def _forbidden(value: Any, where: str) -> Iterator[str]:
    """Every place in a document where the forbidden key stands."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if key == FORBIDDEN:
            yield f"{where}/{key}"
        yield from _forbidden(one, f"{where}/{key}")
