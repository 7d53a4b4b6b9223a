"""Rows of files from elsewhere as JSON documents, each with its place: JSON lines, Parquet, Arrow.

Here: from a file to documents; nothing that a row may not hold anywhere comes through. Not here: which files (layouts.py), what their columns mean
(mapping.py).
Parquet and Arrow files are read by arro3 (arrow-rs) in a child that is limited in time, memory and output: the library panics on some damage, and
a small file can describe a large table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock.errors import ContractError, Violation, refuse
from pipeline.datasets.layouts import FORMS
from pipeline.datasets.reading import FORBIDDEN, forbidden, parsed, raw_lines
from runtime.engine import sandbox

MAX_TABLE = 256 << 20  # bytes of a Parquet or Arrow file, and of its rows as JSON: `datasets` makes shards of 500 MB where nobody says otherwise
LIMITS = sandbox.Limits(cpu_s=120, wall_s=600.0, memory_bytes=4 << 30, output_bytes=MAX_TABLE)
REMEDY = "save it again with `datasets`; a large one in more shards (`save_to_disk(..., max_shard_size='100MB')`)"


@dataclass(frozen=True)
class Document:
    """One row as it came: `place` says which line or row it is; `content` is None where something is wrong with it."""

    place: str
    content: dict[str, Any] | None
    wrong: tuple[Violation, ...] = ()


def documents(file: Path) -> Iterator[Document]:
    """The rows of a file in order. Raises ContractError for a file that cannot be read as what its name says."""
    if FORMS[file.suffix] == "jsonl":
        for number, data in raw_lines(file):
            content, wrong = parsed(file, number, data)
            yield Document(f"line {number}", content, wrong)
        return
    yield from _table(file)


def _table(file: Path) -> Iterator[Document]:
    if (size := file.stat().st_size) > MAX_TABLE:
        raise refuse(file, "", expected=f"at most {MAX_TABLE} bytes", found=f"{size} bytes", remedy=REMEDY)
    try:
        reply = sandbox.call("pipeline.datasets.documents:read_in_child", {"file": str(file), "form": FORMS[file.suffix]}, limits=LIMITS)
    except sandbox.ChildFailed as failed:
        raise refuse(file, "", expected=f"a table that can be read ({FORMS[file.suffix]})", found=failed, remedy=REMEDY) from None
    assert isinstance(reply, dict)
    if FORBIDDEN in reply["schema"]:
        raise ContractError(*forbidden(file, "", {FORBIDDEN: None}), remedy="take that column out of the dataset")
    for number, content in enumerate(reply["rows"], 1):
        yield Document(f"row {number}", content)


def read_in_child(request: dict[str, str]) -> dict[str, Any]:
    """All rows of a table: `{"file", "form"}` to `{"schema": text, "rows": [{column: value}]}`. Columns without a form in JSON are left out.

    Raises ValueError for a file that the library refuses; it panics on some.
    """
    from arro3.io import read_ipc, read_ipc_stream, read_parquet

    file = request["file"]
    if request["form"] == "parquet":
        reader = read_parquet(file)
    else:
        with Path(file).open("rb") as stream:
            framed = stream.read(6) == b"ARROW1"  # a file with an index at its end; `save_to_disk` writes streams
        reader = read_ipc(file) if framed else read_ipc_stream(file)
    rows: list[dict[str, Any]] = []
    for batch in reader:
        columns = {name: batch.column(name).to_pylist() for name in batch.column_names}
        plain = {name: values for name, values in columns.items() if all(map(_is_json, values))}
        rows += [{name: values[number] for name, values in plain.items()} for number in range(batch.num_rows)]
    return {"schema": str(reader.schema), "rows": rows}


def _is_json(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    return value is None or isinstance(value, str | int | float | bool)
