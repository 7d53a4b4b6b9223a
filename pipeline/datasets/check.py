"""What is wrong with a dataset before a run is spent on it, and the figures that a person wants to see.

Here: every row looked at once, alone and beside the others. Not here: one row's rules (rows.py), calls of tools (tools.py), tables
(pipeline/reports).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from interlock.contracts import io
from interlock.contracts.dataset import DatasetContract
from interlock.contracts.strict import shown
from interlock.errors import Violation
from interlock.voice import Voice
from pipeline.datasets.reading import at, read_lines, seen_before
from pipeline.datasets.rows import Row, likeness


@dataclass(frozen=True)
class Encoding:
    """A tokenizer to count with: `encode` gives the ids of a text, `decode` the text of ids. A row of more than `most` tokens is a problem."""

    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    most: int | None


@dataclass
class Figures:
    """Counts of one split. `repeated` counts rows whose prompt came before in it; `answers` and `depths` what stands in how many rows."""

    rows: int = 0
    repeated: int = 0
    characters: list[int] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    strata: Counter[str] = field(default_factory=Counter)


@dataclass
class Checked:
    """What was found: figures by split, and every problem with its file and line."""

    splits: dict[str, Figures] = field(default_factory=dict)
    problems: list[Violation] = field(default_factory=list)


@dataclass(frozen=True)
class _Place:
    split: str
    text: str
    answer: str | None


@dataclass
class _Others:
    """The first row of each prompt, as it stands and as far as it is alike, and of each cluster."""

    alike: dict[bytes, _Place] = field(default_factory=dict)
    same: dict[bytes, _Place] = field(default_factory=dict)
    clusters: dict[str, _Place] = field(default_factory=dict)


RowCheck = Callable[[Row], Iterable[Violation]]


def check(directory: Path, contract: DatasetContract, encoding: Encoding | None, calls: RowCheck | None, voice: Voice) -> Checked:
    """Every problem of a dataset with a whole contract: files, rows, ids, repetitions, contradictions, leaks, lengths.

    calls: what is wrong with a row's calls of tools, where the dataset has tools.
    """
    found = Checked({name: Figures() for name in contract.splits})
    with voice.task("digest", sum(entry.bytes for entry in contract.files), "B") as task:
        found.problems += io.file_violations(directory, contract, task.advance)
    ids: dict[str, str] = {}
    others = _Others()
    count = lru_cache(1 << 16)(_counted) if encoding else None
    for name in sorted(contract.splits, key=lambda split: split == "train"):
        figures, split = found.splits[name], contract.splits[name]
        with voice.task(f"check {name}", split.rows, "rows") as task:
            for file in (directory / listed for listed in split.files if (directory / listed).is_file()):
                for line in read_lines(file):
                    task.advance()
                    found.problems += line.wrong
                    if line.row is None:
                        continue
                    place = f"line {line.number}"
                    found.problems += seen_before(ids, file, place, line.row.id)
                    wrong = [*_beside_others(line.row, _Place(name, f"{file.name} {place}", line.row.answer), others, figures)]
                    if encoding and count:
                        wrong += _measure(line.row, encoding, count, figures)
                    wrong += calls(line.row) if calls else ()
                    found.problems += at(file, place, wrong)
                    _describe(line.row, figures)
    return found


def _beside_others(row: Row, here: _Place, others: _Others, figures: Figures) -> Iterator[Violation]:
    """What a row may not share with another: a prompt that is alike or a cluster with another split, the very prompt with another answer."""
    where = "/prompt" if row.prompt is not None else "/messages"
    alike = others.alike.setdefault(likeness(row.given), here)
    same = others.same.setdefault(hashlib.sha256(row.given.encode()).digest(), here)
    if alike.split != here.split:
        yield Violation("", where, "a prompt that no other split has", f"that of {alike.text} in split `{alike.split}`")
    elif same is not here:
        figures.repeated += 1
        if here.split != "train":
            yield Violation("", where, "each prompt once where models are compared", f"that of {same.text}")
    if same is not here and row.answer is not None and same.answer is not None and same.answer != row.answer:
        yield Violation("", "/answer", f"{shown(same.answer)}, the answer of {same.text} to the same prompt", shown(row.answer))
    for cluster in row.clusters:
        if (owner := others.clusters.setdefault(cluster, here)).split != here.split:
            found = f"`{cluster}`, that of {owner.text} in split `{owner.split}`"
            yield Violation("", "/metadata/clusters", "clusters that no other split has", found)


def _measure(row: Row, encoding: Encoding, count: Callable[[Encoding, str], tuple[int, bool]], figures: Figures) -> Iterator[Violation]:
    """Lengths in tokens, part by part as training makes ids; what does not come back from them; what is too long."""
    given = [row.prompt] if row.prompt is not None else [message.content for message in row.messages or ()]
    said = [*(row.steps or ()), *(text for text in (row.answer, row.response) if text is not None)]
    counts = [count(encoding, text) for text in (*given, *said)]
    figures.prompt_tokens.append(sum(tokens for tokens, _ in counts[: len(given)]))
    figures.tokens.append(sum(tokens for tokens, _ in counts))
    lost = [text for text, (_, comes_back) in zip((*given, *said), counts, strict=True) if not comes_back]
    if lost:
        yield Violation("", "", "texts that come back from their tokens", shown(lost[0]))
    if encoding.most is not None and figures.tokens[-1] > encoding.most:
        yield Violation("", "", f"at most {encoding.most} tokens", str(figures.tokens[-1]))


def _counted(encoding: Encoding, text: str) -> tuple[int, bool]:
    ids = encoding.encode(text)
    return len(ids), encoding.decode(ids) in (text, unicodedata.normalize("NFC", text))


def _describe(row: Row, figures: Figures) -> None:
    figures.rows += 1
    figures.characters.append(len(row.given) + sum(map(len, (*(row.steps or ()), row.answer or "", row.response or ""))))
    if row.steps is not None:
        figures.steps.append(len(row.steps))
    if row.answer is not None:
        figures.answers[row.answer] += 1
    for key in ("depth", "stratum"):
        if isinstance(value := row.metadata.get(key), str | int):
            figures.strata[f"{key} {value}"] += 1


def quantiles(values: list[int]) -> dict[str, int] | None:
    """The least, the middle, the 95th of a hundred and the greatest, each a value that occurs; None without any."""
    if not values:
        return None
    ordered = sorted(values)
    return {"least": ordered[0], "median": ordered[(len(ordered) - 1) // 2], "p95": ordered[-(-95 * len(ordered) // 100) - 1], "most": ordered[-1]}
