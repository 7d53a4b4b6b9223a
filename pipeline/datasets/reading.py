"""Reading rows: strict JSON on every line, and every violation with its file and line.

Here: from untrusted bytes to rows, one file or one split. Not here: the fields of a row (rows.py), the proof of the files by their digests
(pipeline/driver/stage.py), what is wrong between rows (check.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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
                wrong += seen_before(ids, path, f"line {line.number}", line.row.id)
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


def place_of(directory: Path, contract: DatasetContract, name: str, number: int) -> tuple[Path, str]:
    """File and line of a split's row `number`, from 0 in the order of `read_split`."""
    lines = ((directory / file, line) for file in contract.splits[name].files for line, _ in raw_lines(directory / file))
    path, line = next(itertools.islice(lines, number, None))
    return path, f"line {line}"


def read_lines(file: Path) -> Iterator[Line]:
    """The lines of a file as rows. Raises ContractError for what is no regular file."""
    for number, data in raw_lines(file):
        document, wrong = parsed(file, number, data)
        if document is None:
            yield Line(number, None, wrong)
            continue
        try:
            yield Line(number, Row.model_validate_json(data), ())  # strictly parsed before: pydantic reads the same bytes again, much faster
        except ValidationError:
            yield Line(number, None, at(file, f"line {number}", validated(Row, document, str(file))[1]))


def raw_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, up to the first of more than MAX_LINE bytes: where the next one starts is anybody's guess."""
    with open_regular(file) as stream:
        for number in itertools.count(1):
            if not (data := stream.readline(MAX_LINE + 1)):
                return
            yield number, data
            if len(data) > MAX_LINE:
                return


def parsed(file: Path, number: int, data: bytes) -> tuple[dict[str, Any] | None, tuple[Violation, ...]]:
    """One line as a JSON object without what no row may hold, or what is wrong with it."""
    place = f"line {number}"
    if not data.strip():
        return None, at(file, place, [Violation("", "", "one JSON object", "an empty line")])
    try:
        document = parse_json(data, str(file), limit=MAX_LINE, remedy=REMEDY)
    except ContractError as error:
        return None, at(file, place, error.violations)
    # An escape can spell a letter of the name.
    if (FORBIDDEN.encode() in data or b"\\u" in data) and (wrong := forbidden(file, place, document)):
        return None, wrong
    return document, ()


def forbidden(file: Path, place: str, document: dict[str, Any]) -> tuple[Violation, ...]:
    """Every place in a document where the reasoning of a teacher stands."""
    expected = "no reasoning of a teacher: its terms forbid to train on it"
    return at(file, place, [Violation("", where, expected, f"`{FORBIDDEN}`") for where in _forbidden(document, "")])


def at(file: Path, place: str, wrong: Sequence[Violation]) -> tuple[Violation, ...]:
    """The same violations, at a line of a file."""
    # What is no JSON is told by its line within the text, which is always the first.
    places = (f"{place} {one.where.removeprefix('line 1 ')}".strip() for one in wrong)
    return tuple(Violation(str(file), where, one.expected, one.found) for where, one in zip(places, wrong, strict=True))


def _lines_of(directory: Path, files: tuple[str, ...]) -> Iterator[tuple[Path, Line]]:
    for file in files:
        for line in read_lines(directory / file):
            yield directory / file, line


def seen_before(ids: dict[str, str], file: Path, place: str, name: str) -> list[Violation]:
    """What is wrong with an id that came before; `ids` has the place of each."""
    here = f"{file.name} {place}"
    first = ids.setdefault(name, here)
    return [] if first == here else [Violation(str(file), f"{place} /id", "an id of its own", f"that of {first}")]


def _forbidden(value: Any, where: str) -> Iterator[str]:
    """Every place in a document where the forbidden key stands."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if key == FORBIDDEN:
            yield f"{where}/{key}"
        yield from _forbidden(one, f"{where}/{key}")
