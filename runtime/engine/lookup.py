"""Guesses at the next tokens of a text: what followed the last time that it ended so.

Here: an index of a text that grows. Not here: proving a guess (generate.py).
Source of the idea: prompt lookup decoding (apoorvumang/prompt-lookup-decoding, 2023); answers that quote, edit or call repeat their prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

# Tokens that must have stood there before. One alone is too common a neighbour: its guesses are mostly wrong, and a wrong guess costs a row.
LONGEST, SHORTEST = 4, 2


class Lookup:
    """most: the longest guess, 0 for none."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen = 0
        # Where the tokens after each run of some length stand, the last time that it occurred.
        self._after: dict[tuple[int, ...], int] = {}

    def after(self, text: Sequence[int]) -> list[int]:
        """What may follow `text`, which begins with every text asked about before: at most `most` tokens, none where it never ended so."""
        if not self._most:
            return []
        # runs that end before the last token: the text's own end is no precedent of itself
        for end in range(max(self._seen, SHORTEST), len(text)):
            for length in range(SHORTEST, min(LONGEST, end) + 1):
                self._after[tuple(text[end - length : end])] = end
        self._seen = max(self._seen, len(text))
        for length in range(min(LONGEST, len(text)), SHORTEST - 1, -1):
            start = self._after.get(tuple(text[len(text) - length :]))
            if start is not None:
                return list(text[start : start + self._most])
        return []
