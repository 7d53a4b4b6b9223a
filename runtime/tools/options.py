"""Options that hold an answer to a form: a schema, an expression, a grammar, choices, or tools.

Here: the options and the files that they name. Not here: what follows from them (runtime/engine/constraints, reply.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.errors import UsageError, refuse

if TYPE_CHECKING:
    from runtime.engine.chat import Message
    from runtime.engine.constraints.sources import Source
    from runtime.engine.tokenizer import Tokenizer
    from runtime.engine.turn import GenerationParams
    from runtime.tools.definitions import Choice, Tool
    from runtime.tools.reply import Asked

_FILE_BYTES = 1 << 20


def add_form_options(parser: argparse.ArgumentParser) -> None:
    """At most one form of an answer."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json-schema", type=Path, metavar="FILE", help="hold the answer to a JSON schema")
    forms.add_argument("--regex", metavar="PATTERN", help="hold the whole answer to a regular expression")
    forms.add_argument("--grammar", type=Path, metavar="FILE", help="hold the answer to a grammar in Lark's form")
    forms.add_argument("--choice", action="append", metavar="TEXT", help="hold the answer to one of the texts that this is given with")
    forms.add_argument("--tools", type=Path, metavar="FILE", help="function definitions (a JSON list in OpenAI's form) that the answer may call")
    told = "with --tools: auto, none, required, or the name of the tool to call (default: auto)"
    parser.add_argument("--tool-choice", metavar="CHOICE", help=told)


@dataclass(frozen=True)
class Form:
    """The form of every answer of a run: a description, or tools and the choice among them."""

    source: Source | None = None
    tools: tuple[Tool, ...] = ()
    choice: Choice | None = None

    def hold(self, tokenizer: Tokenizer, params: GenerationParams) -> GenerationParams:
        """Parameters that hold an answer to the description, where there is one. Raises UsageError."""
        if self.source is None:
            return params
        from runtime.engine.constraints.compiled import compile_constraint

        return replace(params, constraint=compile_constraint(tokenizer, self.source))

    def ask(self, tokenizer: Tokenizer, messages: Sequence[Message], params: GenerationParams) -> Asked:
        """A prompt that tells the tools, and parameters that hold an answer to them. Raises as `ask_with_tools`."""
        from runtime.tools.reply import ask_with_tools

        assert self.choice
        return ask_with_tools(tokenizer, messages, self.tools, params, choice=self.choice)

    def result(self, text: str) -> dict[str, Any]:
        """What an answer's document says of its calls: nothing where there are no tools."""
        if not self.tools:
            return {}
        from runtime.tools.calls import parse_reply

        return {"tool_calls": [{"name": call.name, "arguments": call.arguments} for call in parse_reply(text).calls]}


def form_of(args: argparse.Namespace) -> Form:
    """What the options say, files read and checked. Raises UsageError and ContractError."""
    if args.tool_choice is not None and args.tools is None:
        raise UsageError("--tool-choice belongs to --tools", remedy="give both")
    if args.tools is not None:
        if args.raw:
            raise UsageError("--tools needs the chat template, and --raw leaves it out", remedy="leave one of them out")
        return _tools(args.tools, args.tool_choice or "auto")
    if not any((args.json_schema, args.regex is not None, args.grammar, args.choice)):
        return Form()
    from runtime.engine.constraints import sources

    if args.json_schema:
        return Form(sources.json_schema(_json(args.json_schema, dict)))
    if args.grammar:
        return Form(sources.lark(_text(args.grammar)))
    return Form(sources.choices(args.choice) if args.choice else sources.regex(args.regex))


def _tools(path: Path, choice: str) -> Form:
    from runtime.tools.definitions import parse_choice, parse_tools

    tools = parse_tools(_json(path, list), str(path))
    named = choice if choice in ("auto", "none", "required") else {"type": "function", "function": {"name": choice}}
    return Form(tools=tools, choice=parse_choice(named, tools))


def _json(path: Path, kind: type) -> Any:
    remedy = "correct the file"
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise refuse(path, "", expected="JSON", found=error, remedy=remedy) from None
    if not isinstance(value, kind):
        names: dict[type, str] = {dict: "object", list: "list"}
        raise refuse(path, "", expected=f"a JSON {names[kind]}", found=f"a JSON {names.get(type(value), type(value).__name__)}", remedy=remedy)
    return value


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
        if len(data) > _FILE_BYTES:
            raise refuse(path, "", expected=f"at most {_FILE_BYTES} bytes", found="more", remedy="shorten the file")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`{path}` cannot be read ({getattr(error, 'strerror', None) or error})", remedy="name a file of text in UTF-8") from None
