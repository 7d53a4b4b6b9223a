"""Where a text may end: after a sentence mark or at the end of a line.

Here: the one test that a halt head is fitted by and read by. Not here: the head (pipeline/halting), when a generation ends (turn.py).
It looks at nothing that comes later: while a text is generated there is nothing later yet.
"""

from __future__ import annotations

import re

_MARK = re.compile(r"[.!?][\"')*\]]*\s*$")
# `1.` or `-` at the start of a line or right after a sentence announces an item; nothing has been said yet.
ENUMERATOR = re.compile(r"(?:^|\n|[.!?:][\"')*\]]*\s)\s*(?:\d{1,3}[.)]|[-*•])\s*$")


def ends_cleanly(text: str) -> bool:
    """Whether `text` stands at the end of a sentence or line, a list's enumerator excepted."""
    bare = text.rstrip("\n")
    return bool(bare.strip()) and not ENUMERATOR.search(bare) and (text.endswith("\n") or bool(_MARK.search(text)))
