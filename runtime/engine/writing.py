"""Tokens to the text that a reader sees: whole characters, and nothing that a stop text takes back.

Here: what is held back and what is passed on. Not here: ids and bytes (tokenizer.py), when a generation ends (turn.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runtime.engine.tokenizer import Stream

OnText = Callable[[str], None]


class Writer:
    """Tokens to text, held back while it may be the start of a stop text."""

    def __init__(self, stream: Stream, stops: tuple[str, ...], on_text: OnText | None) -> None:
        self._stream = stream
        self._stops = StopFinder(stops)
        self._on_text = on_text
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def said(self) -> str:
        """Everything so far, what is held back included."""
        return self.text + self._stops.held

    def push(self, token: int) -> bool:
        """Whether a stop text is complete."""
        self._pass_on(self._stops.push(self._stream.push(token)))
        return self._stops.found

    def finish(self) -> None:
        if not self._stops.found:
            self._pass_on(self._stops.push(self._stream.finish()) + self._stops.rest())

    def _pass_on(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            if self._on_text:
                self._on_text(text)


class StopFinder:
    """Finds the stop text that is complete first, in text that comes in pieces; how it is cut into pieces makes no difference.

    Holds at most the longest stop text less one character.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, stops), default=0)
        self.held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Text that is certainly before any stop text. After `found` nothing more is to be pushed."""
        text = self.held + text
        # Completed first; of those that end together the longest, since it began first.
        ends = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if ends:
            self.found = True
            self.held = ""
            return text[: min(ends)[1]]
        keep = next((n for n in range(min(self._longest - 1, len(text)), 0, -1) if any(stop.startswith(text[-n:]) for stop in self._stops)), 0)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back, when no more text comes."""
        rest, self.held = self.held, ""
        return rest
