"""Stage `data-import`: rows from elsewhere in, a dataset out.

Here: what is written, and that nothing is taken which is wrong anywhere. Not here: finding and reading foreign files (pipeline/datasets/layouts.py,
documents.py), what their columns mean (mapping.py), generated rows (data.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter
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
    source that does not say; `hold_out` takes shares of these rows for other splits; `drop_leaks` leaves out of a split what one that is held out
    has, instead of refusing."""

    source: Path
    task: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    kept: tuple[str, ...] = ()
    separator: str = ""
    split: str = "train"
    hold_out: dict[str, float] = Field(default_factory=dict)
    drop_leaks: bool = False
    licence: str = "not stated"


@dataclass
class _State:
    """What is known of the rows so far: how many a split has, whose each prompt and cluster is, the place of each id, what is wrong."""

    rows: Counter[str] = field(default_factory=Counter)
    owners: dict[bytes | str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    wrong: list[Violation] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    dropped: int = 0


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    if unknown := set(params.columns) - set(mapping.FIELDS):
        raise UsageError(f"a row has no field `{sorted(unknown)[0]}`", remedy=f"fields are {', '.join(mapping.FIELDS)}")
    found = layouts.find(params.source, params.split)
    splits = _held_out(params, found.splits)
    with voice.task("digest the source", sum(file.stat().st_size for file in found.used), "B") as task:
        origin = layouts.origin(params.source, found, task.advance)
    state = _State()
    # What is held out comes first: its prompts are the ones that others must not have.
    for name in sorted(splits, key=lambda split: split == (params.split if params.hold_out else "train")):
        with voice.task(f"import {name}") as task:
            work.stream(file_of(name), _lines(_rows(params, splits[name], name, state), name, state, task))
        if not state.rows[name] and not state.wrong:
            state.wrong.append(Violation(str(params.source), "", f"rows of split `{name}`", "none"))
        if state.wrong and params.hold_out:
            break  # the same files again would tell the same
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
            "splits": {name: dataset.Split(files=(file_of(name),), rows=state.rows[name]) for name in splits},
            "tokenizer": None,
            "licence": params.licence,
        },
        inputs=(InputRef(kind="source", digest=origin.sha256),),
    )


STAGE = stage.Stage("data-import", "train", "dataset", Params, work, __name__, reads=("source",))


def _lines(rows: Iterator[Row], split: str, state: _State, task: Task) -> Iterator[bytes]:
    for row in rows:
        state.rows[split] += 1
        task.note(f"{state.rows[split]} rows")
        yield row.line()


def _held_out(params: Params, splits: dict[str, tuple[Path, ...]]) -> dict[str, tuple[Path, ...]]:
    """The files of each split; all have the same where shares of one are held out. Raises UsageError."""
    if not params.hold_out:
        return splits
    if list(splits) != [params.split] or params.split in params.hold_out:
        raise UsageError(f"the source has splits of its own: {', '.join(splits)}", remedy="hold rows out of a source without them, or name others")
    if not all(0 < share < 1 for share in params.hold_out.values()) or sum(params.hold_out.values()) >= 1:
        raise UsageError("what is held out is no part of the rows", remedy="give shares between 0 and 1 that leave something, such as test=0.1")
    return dict.fromkeys((params.split, *map(layouts.split_name, params.hold_out)), splits[params.split])


def _owner(row: Row, params: Params) -> str:
    """The split of a row, by the digest of its cluster or prompt alone: it stays where it is when the source grows."""
    key = row.clusters[0].encode() if row.clusters else likeness(row.given)
    place = int.from_bytes(hashlib.sha256(b"held out " + key).digest()[:8], "big") / 2**64
    for name, share in params.hold_out.items():
        if place < share:
            return name
        place -= share
    return params.split


def _rows(params: Params, files: tuple[Path, ...], split: str, state: _State) -> Iterator[Row]:
    """The rows of one split that nothing is wrong with; what is wrong goes into `state`, which ends it when there is too much."""
    fields = mapping.Fields(params.columns, params.kept, params.separator)
    number = 0
    for file in files:
        for document in documents(file):
            number += 1
            row, wrong = _row(fields, file, document, f"{params.split if params.hold_out else split}-{number}")
            if document.content is not None:
                state.unread |= document.content.keys() - fields.named
            if row is not None and params.hold_out and _owner(row, params) != split:
                continue
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
