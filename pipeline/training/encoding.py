"""Rows of a dataset as examples of one tokenizer.

Here: parts as ids, what a row must have. Not here: reading rows (pipeline/datasets/reading.py), batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from interlock.contracts.checkpoint import TokenizerInfo
from interlock.contracts.dataset import DatasetContract
from interlock.contracts.strict import MAX_SHOWN
from interlock.errors import ContractError, InterlockError, UsageError, Violation
from interlock.voice import Voice
from pipeline.datasets.reading import place_of
from pipeline.datasets.rows import Row
from pipeline.datasets.tools import Registry, offered
from pipeline.training.code_mode import fork
from pipeline.training.dialogues import Turn, turns
from pipeline.training.examples import Example, Special
from pipeline.training.teaching.targets import TaughtRow
from runtime.engine.chats import Said
from runtime.engine.tokenizer import Tokenizer


def special_of(info: TokenizerInfo, *, spans: bool) -> Special:
    """The ids that are no text. Raises UsageError for spans with a tokenizer that has no `<bot>` and `<eot>`, and where nothing ends a text."""
    if not info.eos_ids:
        raise UsageError("the tokenizer has no token that ends a text", remedy="import the checkpoint with a tokenizer that names its `eos_token`")
    if spans and (info.bot_id is None or info.eot_id is None):
        raise UsageError(
            "latent spans need the tokens `<bot>` and `<eot>`, and the tokenizer has none",
            remedy="make one that has: interlock data tokenizer DATASET; or leave [train.latent] out",
        )
    return Special(info.pad_id if info.pad_id is not None else info.eos_ids[0], info.bot_id, info.eot_id, info.vocab_size)


@dataclass(frozen=True)
class Origin:
    """Where rows come from: the split's name, file and line of a row by its number, and the tools that rows may call."""

    split: str
    place: Callable[[int], tuple[Path | str, str]]
    registry: Registry = field(default_factory=dict)


def origin(directory: Path, contract: DatasetContract, split: str, rows: Sequence[Row]) -> Origin:
    """That of the rows of a split of a dataset whose files are proven. Raises ContractError for a registry that is none."""
    return Origin(split, lambda number: place_of(directory, contract, split, number), offered(directory, contract.tools, rows))


Teachers = Mapping[str, TaughtRow]


def encoded(
    rows: Sequence[Row],
    tokenizer: Tokenizer,
    most: int,
    source: Origin,
    voice: Voice,
    teachers: Teachers | None = None,
    pairs: Callable[[Row], bool] = lambda row: False,
) -> list[Example]:
    """One example for each row with a prompt, which says its steps and its answer, or its response; a token that ends a text comes last. One for each
    turn of the assistant in a row with messages (dialogues.py), the last of which is the row's response or answer.

    most: the most tokens that an example may have, its steps in text. teachers: by the id of a row, the tokens that a teacher said, which are then
    the row's, and what it thought: the same text cut into other tokens would be another question. pairs: whose rejected answer belongs to the
    example. Raises ContractError with every row that is longer, or that the chat template does not write; UsageError where there are dialogues and no
    template.
    """
    made: dict[int, list[Example]] = {number: [] for number in range(len(rows))}
    wrong = _Wrong(source)
    with voice.task(f"tokens of {source.split}", len(rows), "rows") as task:
        # the same steps and answers come again and again
        ids = lru_cache(maxsize=1 << 16)(lambda text: tuple(tokenizer.encode(text)))
        for number, row in enumerate(rows):
            if row.prompt is not None:
                made[number].append(_of_prompt(row, tokenizer, ids, teachers or {}, pairs))
                task.advance()
        for turn in turns({number: row for number, row in enumerate(rows) if row.messages}, tokenizer, source.registry, pairs=pairs):
            if isinstance(turn.said, InterlockError):
                wrong.refused(turn.row, turn.message, turn.said)
                if wrong.enough:
                    break
            else:
                _add(made[turn.row], turn, turn.said, rows[turn.row], teachers or {})
                task.advance(int(turn.part == "own"))
    for number, examples in made.items():
        # `<bot>` and `<eot>` beside it
        if (length := max((len(one.prompt) + max(len(one.tail(0)), len(one.rejected)) + 2 for one in examples), default=0)) > most:
            wrong.long(number, length, most)
        if any(one.rejected and min(len(one.tail(0)), len(one.rejected)) <= fork(one) for one in examples):
            wrong.alike(number)
    wrong.check()
    return [example for examples in made.values() for example in examples]


def _of_prompt(row: Row, tokenizer: Tokenizer, ids: Callable[[str], tuple[int, ...]], teachers: Teachers, pairs: Callable[[Row], bool]) -> Example:
    said = row.response if row.response is not None else row.answer or ""
    steps = () if row.response is not None else tuple(ids(step) for step in row.steps or ())
    ends = tokenizer.info.eos_ids[0]
    rejected = (*ids(row.rejected.content), ends) if row.rejected is not None and pairs(row) else ()
    example = Example(row.id, tuple(tokenizer.encode_prompt(row.prompt or "")), steps, (*ids(said), ends), rejected=rejected)
    return _taught(example, row, teachers)


def _add(examples: list[Example], turn: Turn, said: Said, row: Row, teachers: Teachers) -> None:
    """A turn of a dialogue beside those before it; what is rejected belongs to the row's own, which came just before, unless that is wrong."""
    if turn.part == "rejected":
        examples[-1:] = [replace(one, rejected=tuple(said.ids)) for one in examples[-1:]]
        return
    name = row.id if turn.part == "own" else f"{row.id} message {turn.message}"
    example = Example(name, tuple(said.prompt), (), tuple(said.ids))
    examples.append(_taught(example, row, teachers) if turn.part == "own" else example)


def _taught(example: Example, row: Row, teachers: Teachers) -> Example:
    taught = teachers.get(row.id)
    return example if taught is None else replace(example, answer=taught.tokens, teacher=taught.teacher)


class _Wrong:
    """What is wrong with rows, by file and line, and what to do about it."""

    def __init__(self, source: Origin) -> None:
        self._source = source
        self._found: list[Violation] = []
        self._remedies: dict[str, None] = {}

    @property
    def enough(self) -> bool:
        return len(self._found) >= MAX_SHOWN

    def refused(self, number: int, message: int, error: InterlockError) -> None:
        found = error.violations[0].found if isinstance(error, ContractError) else str(error)
        where = f" message {message}" if message else ""
        self._add(number, where, "a dialogue that the model's chat template writes", found, error.remedy)

    def long(self, number: int, length: int, most: int) -> None:
        remedy = "take these rows out, or train a student with more positions (arch.max_position)"
        self._add(number, "", f"at most {most} positions, as many as the student has", f"{length}", remedy)

    def alike(self, number: int) -> None:
        expected = "a rejected answer that differs from what the row says before either ends"
        self._add(number, " /rejected", expected, "none", "mend or remove `rejected`")

    def check(self) -> None:
        """Raises ContractError if anything is."""
        if self._found:
            raise ContractError(*self._found, remedy="; ".join(self._remedies))

    def _add(self, number: int, where: str, expected: str, found: str, remedy: str) -> None:
        if not self.enough:
            file, line = self._source.place(number)
            self._found.append(Violation(str(file), f"{line}{where}", expected, found))
            self._remedies[remedy] = None
