"""Calls in a reply as it comes: words at once, a call's name when it is known, its arguments piece by piece.

Here: `<tool_call>` blocks and lists, which is all that a constrained reply has. Not here: other forms (calls.py reads them in a whole reply).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from runtime.tools.calls import CLOSING, OPENING, arguments_text, parse_reply

_HEAD = re.compile(r'[\s\[,}]*\{\s*"name"\s*:\s*"(?P<name>[^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')


@dataclass(frozen=True)
class Delta:
    """A piece of a reply. `text`: words of it. `name`: call number `index` begins. `arguments`: more of that call's JSON text."""

    text: str = ""
    index: int | None = None
    name: str | None = None
    arguments: str = ""


class CallStream:
    """Pieces of text in, deltas out; how the text is cut makes no difference to what they are together."""

    def __init__(self) -> None:
        self._rest = ""
        self._where: Literal["words", "block", "arguments"] = "words"
        self._index = -1
        self._in_block = 0  # calls of the open block
        self._depth, self._in_string, self._escaped = 0, False, False

    def push(self, text: str) -> list[Delta]:
        self._rest += text
        deltas: list[Delta] = []
        while (made := self._step()) is not None:
            deltas += made
        return deltas

    def finish(self) -> list[Delta]:
        """What was held back, when no more text comes: words, the beginning of a mark among them. Of a call that was cut off nothing more."""
        rest, self._rest = self._rest, ""
        if self._where == "words":
            return [Delta(text=rest)] if rest else []
        return [Delta(text=OPENING + rest)] if self._where == "block" and not self._in_block else []

    def _step(self) -> list[Delta] | None:
        """None where more text is needed."""
        if self._where == "words":
            return self._words()
        return self._block() if self._where == "block" else self._arguments()

    def _words(self) -> list[Delta] | None:
        begin = self._rest.find(OPENING)
        if begin >= 0:
            text, self._rest = self._rest[:begin], self._rest[begin + len(OPENING) :]
            self._where, self._in_block = "block", 0
            return [Delta(text=text)] if text else []
        keep = next(n for n in range(min(len(OPENING) - 1, len(self._rest)), -1, -1) if OPENING.startswith(self._rest[len(self._rest) - n :]))
        text, self._rest = self._rest[: len(self._rest) - keep], self._rest[len(self._rest) - keep :]
        return [Delta(text=text)] if text else None

    def _block(self) -> list[Delta] | None:
        if head := _HEAD.match(self._rest):
            self._rest = self._rest[head.end() :]
            self._where, self._index, self._in_block = "arguments", self._index + 1, self._in_block + 1
            self._depth, self._in_string, self._escaped = 0, False, False
            return [Delta(index=self._index, name=head["name"])]
        end = self._rest.find(CLOSING)
        if end < 0:
            return None
        block, self._rest = self._rest[:end], self._rest[end + len(CLOSING) :]
        self._where = "words"
        return [] if self._in_block else self._whole(f"{OPENING}{block}{CLOSING}")

    def _whole(self, block: str) -> list[Delta]:
        """A block in another order than expected: its calls at once, or its words."""
        reply = parse_reply(block)
        deltas = [Delta(text=reply.text)] if reply.text else []
        for call in reply.calls:
            self._index += 1
            deltas += [Delta(index=self._index, name=call.name), Delta(index=self._index, arguments=arguments_text(call.arguments))]
        return deltas

    def _arguments(self) -> list[Delta] | None:
        for place, char in enumerate(self._rest):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped, self._in_string = char == "\\", char != '"'
            elif char == '"':
                self._in_string = True
            elif char in "{}":
                self._depth += 1 if char == "{" else -1
                if self._depth == 0:
                    text, self._rest = self._rest[: place + 1], self._rest[place + 1 :]
                    self._where = "block"
                    return [Delta(index=self._index, arguments=text)]
        text, self._rest = self._rest, ""
        return [Delta(index=self._index, arguments=text)] if text else None
