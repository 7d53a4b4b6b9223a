"""Stage `data-import`: rows from elsewhere in, a dataset out.

Here: what is written, and that nothing is taken which is wrong anywhere. Not here: finding and reading foreign files (pipeline/datasets/layouts.py,
documents.py), what their columns mean (mapping.py), generated rows (data.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from interlock.contracts import dataset
from interlock.contracts.base import InputRef
from interlock.contracts.strict import MAX_SHOWN
from interlock.errors import ContractError, UsageError, Violation
from interlock.fs import Workspace
from interlock.voice import Task, Voice
from pipeline.datasets import layouts, mapping, reading
from pipeline.datasets.documents import Document, documents
from pipeline.datasets.rows import Row, likeness
from pipeline.driver import stage
from pipeline.stages.data import file_of


class Params(stage.Params):
    """`source` is a file or a directory. `columns`, `kept` and `separator` are those of pipeline.datasets.mapping.Fields; `split` names the rows of a
    source that does not say; `drop_leaks` leaves out of a split what one that is held out has, instead of refusing."""

    source: Path
    task: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    kept: tuple[str, ...] = ()
    separator: str = ""
    split: str = "train"
    drop_leaks: bool = False
    licence: str = "not stated"


@dataclass
class _State:
    """What is known of the rows so far: whose each prompt and cluster is, the place of each id, what is wrong."""

    owners: dict[bytes | str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    wrong: list[Violation] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    dropped: int = 0


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    if unknown := set(params.columns) - set(mapping.FIELDS):
        raise UsageError(f"a row has no field `{sorted(unknown)[0]}`", remedy=f"fields are {', '.join(mapping.FIELDS)}")
    found = layouts.find(params.source, params.split)
    with voice.task("digest the source", sum(file.stat().st_size for file in found.used), "B") as task:
        origin = layouts.origin(params.source, found, task.advance)
    state = _State()
    rows: dict[str, int] = {}
    # What is held out comes first: its prompts are the ones that others must not have.
    for name in sorted(found.splits, key=lambda split: split == "train"):
        count = 0
        with voice.task(f"import {name}") as task:

            def counted(name: str = name, task: Task = task) -> Iterator[bytes]:
                nonlocal count
                for row in _rows(params, found.splits[name], name, state):
                    count += 1
                    task.note(f"{count} rows")
                    yield row.line()

            work.stream(file_of(name), counted())
        if not count and not state.wrong:
            state.wrong.append(Violation(str(params.source), "", f"rows of split `{name}`", "none"))
        rows[name] = count
    if state.wrong:
        raise ContractError(*state.wrong[:MAX_SHOWN], remedy="mend those rows or leave them out; --map says which column is which field")
    if state.unread:
        voice.step(f"columns left out: {', '.join(sorted(state.unread))} (--keep makes metadata of one)")
    if state.dropped:
        voice.warn(f"{state.dropped} rows left out: a split that is held out has their prompt")
    return stage.Outcome(
        body={
            "task": params.task or params.source.resolve().stem,
            "generator": None,
            "origin": origin,
            "splits": {name: dataset.Split(files=(file_of(name),), rows=rows[name]) for name in found.splits},
            "tokenizer": None,
            "licence": params.licence,
        },
        inputs=(InputRef(kind="source", digest=origin.sha256),),
    )


STAGE = stage.Stage("data-import", "train", "dataset", Params, work, __name__, reads=("source",))


def _rows(params: Params, files: tuple[Path, ...], split: str, state: _State) -> Iterator[Row]:
    """The rows of one split that nothing is wrong with; what is wrong goes into `state`, which ends it when there is too much."""
    fields = mapping.Fields(params.columns, params.kept, params.separator)
    number = 0
    for file in files:
        for document in documents(file):
            number += 1
            row, wrong = _row(fields, file, document, f"{split}-{number}")
            if document.content is not None:
                state.unread |= document.content.keys() - fields.named
            if row is not None:
                wrong = (*reading.seen_before(state.ids, file, document.place, row.id), *_leaks(row, file, document.place, split, state))
                if wrong and params.drop_leaks and all(one.where.endswith("/prompt") for one in wrong):
                    state.dropped += 1
                    continue
            state.wrong += wrong
            if len(state.wrong) >= MAX_SHOWN:
                return
            if row is not None and not wrong:
                yield row


def _row(fields: mapping.Fields, file: Path, document: Document, name: str) -> tuple[Row | None, tuple[Violation, ...]]:
    if document.content is None:
        return None, document.wrong
    row, wrong = mapping.row_of(fields, document.content, name)
    return row, reading.at(file, document.place, wrong)


def _leaks(row: Row, file: Path, place: str, split: str, state: _State) -> Iterator[Violation]:
    """What the row shares with another split."""
    if (owner := state.owners.setdefault(likeness(row.given), split)) != split:
        yield Violation(str(file), f"{place} /prompt", "a prompt that no other split has", f"one of split `{owner}`")
    for cluster in row.clusters:
        if (owner := state.owners.setdefault(cluster, split)) != split:
            yield Violation(str(file), f"{place} /metadata/clusters", "clusters that no other split has", f"`{cluster}` of split `{owner}`")
