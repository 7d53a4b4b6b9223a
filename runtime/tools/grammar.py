"""The grammar of a reply: words, calls, or words and then calls, each call with the arguments that its tool takes.

Here: how calls stand in a reply, and the description for runtime/engine/constraints. Not here: which form a model knows (prompt.py), reading calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.engine.constraints import sources
from runtime.engine.tokenizer import Tokenizer
from runtime.tools.calls import CLOSING, OPENING
from runtime.tools.definitions import Choice, Tool

MAX_CALLS = 16  # of one reply: a weak model would never stop
_MARKS = re.compile(f"({OPENING}|{CLOSING})")


@dataclass(frozen=True)
class Form:
    """What stands before the first call, between two, and after the last; each call is an object with `name` and `arguments`."""

    before: str
    between: str
    after: str


# As the SmolLM2 family was taught, whose templates say nothing of tools: one list.
LIST = Form(f"{OPENING}[", ", ", f"]{CLOSING}")
# As the templates of Qwen, Hermes and others write calls: each in a block of its own.
BLOCKS = Form(f"{OPENING}\n", f"\n{CLOSING}\n{OPENING}\n", f"\n{CLOSING}")


def reply_source(tokenizer: Tokenizer, tools: Sequence[Tool], choice: Choice, form: Form, *, parallel: bool = True) -> sources.Source | None:
    """The description of a reply; None where it may be anything. `parallel`: whether it may have more than one call. After calls comes nothing.

    Raises ContractError and UsageError for definitions that were not made by `parse_tools`.
    """
    allowed = choice.of(tools)
    if not allowed:
        return None
    marks = mark_ids(tokenizer)
    # What ends the last call may begin what stands between two: it is then read once, before it is known which of them it is.
    shared = form.after if form.between.startswith(form.after) else ""
    each, rest = f"call {_terms(shared, marks)}", _terms(form.after[len(shared) :], marks)
    more = f"({_terms(form.between[len(shared) :], marks)} {each}){{0,{MAX_CALLS - 1}}}" if parallel else ""
    before = f"{_terms(OPENING, marks)} {_terms(form.before.removeprefix(OPENING), marks)}"
    if choice.mode == "required":
        start = [f"start: {before} calls"]
    elif OPENING in marks:
        start = [f"start: WORDS {before} calls | WORDS", "WORDS: /(?s:.)*/"]
    else:
        # Lazy: it ends where a mark is first complete, so a mark is always the beginning of calls.
        lazy = f'words_and_mark[lazy]: WORDS "{OPENING}"'
        start = [f"start: words_and_mark {before.partition(' ')[2]} calls | WORDS", lazy, "WORDS: /(?s:.)*/"]
    rules = [f"call_{i}: {_literal(tool)} {sources.schema_text(tool.parameters)} {_quoted('}')}" for i, tool in enumerate(allowed)]
    return sources.composed([*start, f"calls: {each} {more} {rest}", f"call: {' | '.join(f'call_{i}' for i in range(len(allowed)))}", *rules])


def mark_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The marks that are control tokens of a tokenizer: a model that was trained with them says these, not their letters."""
    return {mark: tokenizer.encode(mark, control=True)[0] for mark in (OPENING, CLOSING) if mark in tokenizer.control_strings}


def _terms(text: str, marks: dict[str, int]) -> str:
    return " ".join(f"<[{marks[part]}]>" if part in marks else _quoted(part) for part in _MARKS.split(text) if part)


def _literal(tool: Tool) -> str:
    return _quoted(f'{{"name": {json.dumps(tool.name)}, "arguments": ')


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
