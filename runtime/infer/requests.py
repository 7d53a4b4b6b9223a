"""Where requests come from: a word on the command line, standard input, a file of JSON lines.

Here: reading and checking them. Not here: answering (the verb, batch.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from interlock.errors import ContractError, UsageError, Violation

MAX_PROMPT_BYTES = 64 << 20


@dataclass(frozen=True)
class Request:
    """One conversation to answer. `id` comes back with the result."""

    id: str
    messages: tuple[dict[str, str], ...]


def requests_of(args: argparse.Namespace) -> list[Request]:
    """At least one. Raises UsageError and ContractError."""
    system = ({"role": "system", "content": args.system},) if args.system else ()
    if args.source:
        return [_with_system(request, system) for request in read(args.source)]
    prompt = args.prompt
    if prompt is None:
        if sys.stdin.isatty():
            sys.stderr.write("type the prompt, then end it with Ctrl-D\n")
        prompt = sys.stdin.read(MAX_PROMPT_BYTES)
    if not prompt.strip():
        raise UsageError("the prompt is empty", remedy="give --prompt TEXT, or text on standard input")
    return [Request("0", (*system, {"role": "user", "content": prompt}))]


def read(path: Path) -> list[Request]:
    """Every line of a JSON lines file, or every violation in it. Raises ContractError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`{path}` cannot be read ({getattr(error, 'strerror', None) or error})", remedy="name a JSON lines file in UTF-8") from None
    wrong, requests = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            requests.append(_request(json.loads(line), str(number)))
        except (ValueError, RecursionError) as error:
            wrong.append(Violation(str(path), f"line {number}", 'an object with "prompt" or "messages"', str(error)))
    if wrong or not requests:
        empty = Violation(str(path), "", "at least one request", "none")
        raise ContractError(*(wrong or [empty]), remedy='each line is a JSON object: {"prompt": "…"}')
    return requests


def _with_system(request: Request, system: tuple[dict[str, str], ...]) -> Request:
    return request if not system or request.messages[0]["role"] == "system" else Request(request.id, (*system, *request.messages))


def _request(document: object, default: str) -> Request:
    if not isinstance(document, dict):
        raise ValueError(f"a JSON {type(document).__name__}")
    unknown = document.keys() - {"id", "prompt", "messages"}
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    messages = document.get("messages")
    if messages is None:
        messages = [{"role": "user", "content": document.get("prompt")}]
    valid = isinstance(messages, list) and messages and all(isinstance(m, dict) and m.keys() == {"role", "content"} for m in messages)
    if not valid or not all(isinstance(m["role"], str) and isinstance(m["content"], str) for m in messages):
        raise ValueError("no text prompt and no list of {role, content} messages")
    return Request(str(document.get("id", default)), tuple(messages))
