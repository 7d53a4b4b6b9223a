"""Sentences and list items of a finished text, as a reader sees them: with what comes after.

Here: places in characters. Not here: the runtime's test without look-ahead (runtime/engine/endings.py), what an answer needs (labels.py).
"""

from __future__ import annotations

import re

from runtime.engine.endings import ENUMERATOR

_MARK = re.compile(r"[.!?][\"')*\]]*(?=\s|$)")
_ABBREVIATION = re.compile(r"(?:^|\s)(?:[A-Z]|e\.g|i\.e|Dr|Mr|Mrs|St|vs|etc|U\.S|D\.C)\.$")
_ITEM = re.compile(r"(?:^|\n)[ \t]*(?:\d+[.)]|[-*•])[ \t]+(\S)")


def sentence_ends(text: str) -> list[int]:
    """Just after each sentence mark that is followed by space or nothing; marks of enumerators and abbreviations are none."""
    marks = ((mark.start() + 1, mark.end()) for mark in _MARK.finditer(text))
    return [end for after, end in marks if not ENUMERATOR.search(text[:after]) and not _ABBREVIATION.search(text[:after])]


def items(text: str) -> list[int]:
    """Where the words of each item of a list begin: after `1.`, `1)`, `-`, `*` or `•` at the start of a line."""
    return [item.start(1) for item in _ITEM.finditer(text)]


def clean_ends(pieces: tuple[str, ...], ended: bool) -> list[bool]:
    """For 0 … n tokens: whether the text, as the finished text shows it, ends a sentence or line there. ended: the model said that it was done."""
    text, ends = "".join(pieces), [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    marks = set(sentence_ends(text))
    return [_clean(text, end, marks, ended) for end in ends]


def _clean(text: str, end: int, marks: set[int], ended: bool) -> bool:
    said = text[:end]
    if not said.strip():
        return False
    if end == len(text):
        return ended
    line = text[end] == "\n" or said.endswith("\n")
    return end in marks or (line and not ENUMERATOR.search(said.rstrip("\n")))
