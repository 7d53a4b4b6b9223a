"""When an answer is complete: what was asked for is there, and the text has since reached the end of a sentence or line.

Here: one rule per family, on the finished text. Not here: sentences and items (sentences.py), where a head may be obeyed (runtime/engine/endings.py).
A wrong answer counts as complete once it states what was asked for in form: a head that reads hidden states is not to judge truth.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from pipeline.halting.dialogues import Dialogue
from pipeline.halting.sentences import clean_ends, items, sentence_ends

# A place in characters at which the content is there, or None; and whether it is right.
Content = tuple[int | None, bool]
NEVER: Content = (None, False)


@dataclass(frozen=True)
class Label:
    """In tokens: after how many the content is there, and after how many the answer may end at the earliest; None where it never comes so far.
    right: the content is what is true, not only what was asked for in form."""

    content: int | None
    end: int | None
    right: bool


def label(dialogue: Dialogue, pieces: tuple[str, ...], ended: bool) -> Label:
    """pieces: the text of each token of the answer; ended: the model itself ended it there."""
    text = "".join(pieces)
    place, right = RULES[dialogue.family](dialogue, text, ended)
    if place is None:
        return Label(None, None, right)
    length, content = 0, 0
    while length < place:
        length += len(pieces[content])
        content += 1
    clean = clean_ends(pieces, ended)
    return Label(content, next((t for t in range(content, len(pieces) + 1) if clean[t]), None), right)


def _gold(dialogue: Dialogue, text: str, ended: bool) -> Content:
    """The right answer is there, or before that a sentence or line has stated another."""
    place, (stated, _) = _first(text, dialogue.gold[0]), _stated(dialogue, text)
    if place is None or (stated is not None and stated < place):
        return stated, False
    return place, True


def _pair(dialogue: Dialogue, text: str, ended: bool) -> Content:
    """Both capitals are there; else the sentence by which each country has been given one, right or wrong."""
    right = [_first(text, capitals) for capitals in dialogue.gold]
    both = re.search(r"[Cc]apital(?:s| cities)\b[^.!?]*?\bare\b(?! (?:two|both|indeed|some|among|located))(?! *:)", text)
    given = [both or _given(text, re.escape(country.removeprefix("the "))) for country in dialogue.about]
    places = [place if place is not None else said.end() if said else None for place, said in zip(right, given, strict=True)]
    if any(place is None for place in places):
        return NEVER
    last = max(place for place in places if place is not None)
    if all(place is not None for place in right):
        return last, True
    ends = sorted([*sentence_ends(text), *(found.start() for found in re.finditer("\n", text)), *([len(text)] if ended else [])])
    return next((end for end in ends if end >= last), None), False


def _given(text: str, country: str) -> re.Match[str] | None:
    """`The capital of France is …`, or in a list `France: …`."""
    return re.search(
        rf"capital(?: city)? of (?:the )?{country}\b[^.!?]*?\bis\b|(?:^|\n)\W*(?:\d+[.)]\W*)?(?:the )?{country}\W*: *\w", text, re.IGNORECASE
    )


def _first(text: str, alternatives: tuple[str, ...]) -> int | None:
    ends = [found.end() for word in alternatives for found in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)]
    return min(ends, default=None)


_EXCUSE = re.compile(r"\s*(?:I'm|I am|Sorry|As an?\b|I apolog|I don|I can)")
# What a sentence must show, beside being short, to state an answer of its family.
_STATES = {
    "capital": re.compile(r"capital|seat of (?:power|government)"),
    "continent": re.compile(r"continent|Europe|Asia|Africa|America|Oceania|\b(?:located|situated|lies|part of|region)\b"),
    "translate": re.compile(r"^(?!.*\bis a (?:word|phrase|term|noun|verb) that (?!means|translates)).*(?:[\"“*']|\bis\b)", re.DOTALL),
    "opposite": re.compile(r"[\"“*']|\bis\b"),
}
# Of later sentences only those that name a capital are taken for an answer: most explain what the first one said.
_LATER = re.compile(r"\bcapital(?: city)?\b(?: of [^.!?,]*)?(?:,| is\b)")


def _stated(dialogue: Dialogue, text: str) -> Content:
    line = text.find("\n", len(text) - len(text.lstrip()))
    sentences = sentence_ends(text)
    ends = sorted([*sentences[:1], *([line] if line > 0 and not text[:line].rstrip().endswith(":") else [])])
    if not ends or _EXCUSE.match(text):
        return NEVER
    first = text[: ends[0]]
    if len(first.split()) < 7 or _STATES[dialogue.family].search(first):
        return ends[0], False
    later = pairwise(sentences) if dialogue.family == "capital" else ()
    return next((end for start, end in later if _LATER.search(text[start:end])), None), False


_RESULT = re.compile(
    r"(?:=|\bis:?|\bwill be|\bequals|\bgives(?: us| you)?|\bmakes|\bresults in|\bget|\bha(?:ve|s)(?: now)?|\bowns?(?: now)?"
    r"|\banswer:?|\bto|\bare(?: now)?|^)\s*[*$]*(-?\d+(?:,\d{3})*(?:\.\d+)?)(?!\d)"  # what announces a result, and the result
    r"(?!\s*(?:[-+*/x×=−]|plus|minus|times|and|from|more)\s*\d)(?!\s*(?:[-+*/x×=−]|more\b))"  # not an operand of what follows
)
_VAGUE = re.compile(r"\s*(?:are|have|has|owns?)(?! now)\b")


def _arithmetic(dialogue: Dialogue, text: str, ended: bool) -> Content:
    """The first number that is stated as a result."""
    gold, given = dialogue.gold[0][0], re.findall(r"\d+", dialogue.about[0])
    for found in _RESULT.finditer(text):
        value = found[1].replace(",", "")
        # `to 15` may be a step on the way; `There are 20 birds on a tree` repeats an operand, which the right result never is.
        step = found[0].lstrip().startswith("to")
        repeated = value in given and _VAGUE.match(found[0]) and not re.search(r"\bnow\s+\w+$", text[: found.start(1)].rstrip())
        if (found.end() < len(text) or ended) and (value == gold or not (step or repeated)):
            return found.end(1), value == gold
    return NEVER


def _list(dialogue: Dialogue, text: str, ended: bool) -> Content:
    """The line of the last item asked for, or of a shorter list that prose follows; else a sentence that names so many, in few words each."""
    starts = items(text)
    if starts:
        is_enough = len(starts) >= dialogue.count
        line = text.find("\n", starts[dialogue.count - 1 if is_enough else -1])
        if line < 0:
            return (len(text), True) if is_enough and ended else NEVER
        return (line, is_enough) if is_enough or _left(text[starts[0] :], text[line:]) else NEVER
    if (lines := _plain_lines(text, dialogue.count)) is not None:
        return lines
    before = 0
    for end in sentence_ends(text) or ([len(text)] if ended else []):
        head, colon, tail = (*re.split(r"(:|\bwhich are\b|\bsuch as\b|\bincluding\b)", text[before:end], maxsplit=1), "", "")[:3]
        named = [part.split() for part in re.split(r",|\band\b|\bor\b", tail if colon else head) if re.search(r"\w", part)]
        if (colon or not before) and len(named) >= dialogue.count and all(len(words) <= 3 for words in named[1:]):
            return end, True
        before = end
    return NEVER


_LINES = re.compile(r":\n\n?((?:[^\n.!?:`]{1,40}(?:\n|$))+)")


def _plain_lines(text: str, count: int) -> Content | None:
    """A list without enumerators: short lines after a colon, as many as were asked for, or at least two that prose follows."""
    for found in _LINES.finditer(text):
        ends = [found.start(1) + line.end() for line in re.finditer(r"[^\n]+(?=\n)", found[1])]
        if len(ends) >= count:
            return ends[count - 1], True
        if len(ends) >= 2 and text[ends[-1] :].startswith("\n\n") and text[ends[-1] :].strip():
            return ends[-1], False
    return None


def _left(block: str, rest: str) -> bool:
    """Whether a list of at least two items on lines that follow each other was left for a paragraph of prose. block: from its first item on; rest:
    from the end of its last."""
    lines = block[: len(block) - len(rest)].split("\n")
    return len(lines) >= 2 and all(line.strip() for line in lines) and rest.startswith("\n\n") and bool(rest.strip())


def _sentences(dialogue: Dialogue, text: str, ended: bool) -> Content:
    ends = sentence_ends(text)
    return (ends[dialogue.count - 1], True) if len(ends) >= dialogue.count else NEVER


def _yesno(dialogue: Dialogue, text: str, ended: bool) -> Content:
    """A verdict in the first sentence; else the first sentence that says what the subject is or is not, or names the kind that was asked about."""
    ends = sentence_ends(text)
    verdict = re.search(r"\b(yes|no|true|false)\b", text, re.IGNORECASE)
    if verdict and (not ends or verdict.start() < ends[0]):
        return verdict.end(), verdict[0].lower() in dialogue.gold[0]
    subject, kind = map(re.escape, dialogue.about)
    said = re.compile(rf"\b{subject}s?\b[^.!?]*?\b(?:is|are)\b|\b{kind}s?\b", re.IGNORECASE)
    for start, end in pairwise([0, *ends]):
        if said.search(text, start, end) and not _ASKS.search(text, start, end):
            return end, False
    return NEVER


# A sentence that speaks of the question, and not of its subject.
_ASKS = re.compile(r"\bwhether\b|\bThe (?:question|concept|idea|term|phrase|statement) ")


RULES: dict[str, Callable[[Dialogue, str, bool], Content]] = {
    "capital": _gold,
    "pair": _pair,
    "continent": _gold,
    "translate": _gold,
    "opposite": _gold,
    "arithmetic": _arithmetic,
    "list": _list,
    "define": _sentences,
    "two": _sentences,
    "yesno": _yesno,
    "open": lambda dialogue, text, ended: NEVER,
}
