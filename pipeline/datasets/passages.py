"""Task `passages`: pieces of a text that ships with interlock, for what a model thinks of every word of it.

Here: where the text is cut. Not here: perplexity (eval/asking/reading.py). The text, its origin and its rights: texts/README.md.
A row's prompt is the beginning of a piece, which a model reads without being judged, its answer the rest. Nothing is left out between two pieces.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from interlock.errors import StageFailed, UsageError
from pipeline.datasets.rows import Row
from pipeline.datasets.tasks import Order, Task

TEXT = Path(__file__).parent / "texts" / "news-from-nowhere.txt"
SHA256 = "d2ffa40a6452eae4816a81e7c3c5a9930eba32478256a3d60cfc1bbeb3be415f"
LEAST = 1000  # characters of a piece: some 230 tokens
_READ = 120  # of which at least so many are given
_SENTENCE = re.compile(r""".+?(?:\n\n|[.!?]["']?(?= )|\Z)""", re.DOTALL)


def make(order: Order) -> Iterator[Row]:
    """In the order of the text. Raises UsageError where there are not that many pieces, StageFailed for a text that was changed."""
    pieces = list(cut(text()))
    if order.rows > len(pieces):
        raise UsageError(f"split `{order.split}` cannot have {order.rows} passages", remedy=f"ask for at most {len(pieces)}")
    for number, (chapter, piece) in enumerate(pieces[: order.rows]):
        end = _READ + re.search(r"(?<=\s)|$", piece[_READ:]).start()  # type: ignore[union-attr]
        # The space is the next word's, as tokenizers have it.
        given, rest = piece[:end].rstrip(" "), piece[len(piece[:end].rstrip(" ")) :]
        yield Row(id=order.id(number), prompt=given, answer=rest, metadata={"stratum": chapter, "clusters": [f"passage {number}"]})


def text() -> str:
    """The whole text."""
    data = TEXT.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise StageFailed(f"`{TEXT}` is not the text that figures are of", remedy="put back the file that came with interlock")
    return data.decode("ascii")


def cut(whole: str) -> Iterator[tuple[str, str]]:
    """Chapters, and pieces of them that end where a sentence does and are long enough; the last one of a chapter takes what is left."""
    for chapter in re.split(r"(?m)^(?=CHAPTER )", whole)[1:]:
        name = chapter.split(":", 1)[0].lower()
        pieces = [""]
        for sentence in _SENTENCE.findall(chapter):
            pieces[-1] += sentence
            if len(pieces[-1]) >= LEAST:
                pieces.append("")
        if len(pieces[-1]) < LEAST and len(pieces) > 1:
            last = pieces.pop()
            pieces[-1] += last
        yield from ((name, piece) for piece in pieces)


TASK = Task("passages", "pieces of a text in the public domain, to be read", {"test": 78}, make)
