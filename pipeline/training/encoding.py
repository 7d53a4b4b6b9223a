"""Rows of a dataset as examples of one tokenizer.

Here: parts as ids, what a row must have. Not here: reading rows (pipeline/datasets/reading.py), batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from interlock.contracts.checkpoint import TokenizerInfo
from interlock.errors import ContractError, UsageError, Violation
from interlock.voice import Voice
from pipeline.datasets.rows import Row
from pipeline.training.examples import Example, Special
from pipeline.training.teaching.targets import TaughtRow
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


def encoded(
    rows: Sequence[Row], tokenizer: Tokenizer, most: int, where: str, voice: Voice, teachers: Mapping[str, TaughtRow] | None = None
) -> list[Example]:
    """One example for each row. A row says its steps and its answer, or its response; a token that ends a text comes last.

    most: the most tokens that a row may have, its steps in text. teachers: by the id of a row, the tokens that a teacher said, which are then the
    row's, and what it thought: the same text cut into other tokens would be another question. Raises ContractError with every row that is longer,
    or has no prompt.
    """
    ends = tokenizer.info.eos_ids[0]
    # the same steps and answers come again and again
    ids = lru_cache(maxsize=1 << 16)(lambda text: tuple(tokenizer.encode(text)))
    made: list[Example] = []
    wrong: list[Violation] = []
    with voice.task(f"tokens of {where}", len(rows), "rows") as task:
        for row in rows:
            task.advance()
            if row.prompt is None:
                wrong.append(Violation(where, f"row {row.id}", "a prompt", "messages, which no training reads yet"))
                continue
            said = row.response if row.response is not None else row.answer or ""
            steps = () if row.response is not None else tuple(ids(step) for step in row.steps or ())
            taught = (teachers or {}).get(row.id)
            answer = (*ids(said), ends) if taught is None else taught.tokens
            example = Example(row.id, tuple(tokenizer.encode_prompt(row.prompt)), steps, answer, taught.teacher if taught else None)
            # `<bot>` and `<eot>` beside it
            if (length := len(example.prompt) + len(example.tail(0)) + 2) > most:
                wrong.append(Violation(where, f"row {row.id}", f"at most {most} positions, as many as the student has", f"{length}"))
            made.append(example)
    if wrong:
        raise ContractError(*wrong[:20], remedy="take these rows out, or train a student with more positions (arch.max_position)")
    return made
