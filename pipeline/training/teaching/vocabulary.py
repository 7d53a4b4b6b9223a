"""The tokens of a tokenizer by their bytes, and two tokenizers that must be the same.

Here: reading `tokenizer.json` for a teacher that says tokens as text. Not here: encoding (runtime/engine/tokenizer.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from interlock.contracts.checkpoint import TOKENIZER, TokenizerInfo
from interlock.contracts.io import open_regular
from interlock.errors import ContractError, Violation, refuse
from runtime.engine.tokenizer import TOKENIZER_BYTES, Tokenizer

SAME = "teach with the student's own tokenizer, or bring in a student that has the teacher's (`interlock import --tokenizer`)"


@dataclass(frozen=True)
class Vocabulary:
    """sha256: of `tokenizer.json`; size: one more than the highest id; ids: by the bytes of a token, a control token by its text."""

    sha256: str
    size: int
    ids: dict[bytes, int]


def read_vocabulary(path: Path) -> Vocabulary:
    """Of a `tokenizer.json`, or of the directory that has one. Raises ContractError."""
    file = path / TOKENIZER if path.is_dir() else path
    with open_regular(file) as stream:
        data = stream.read(TOKENIZER_BYTES + 1)
    if len(data) > TOKENIZER_BYTES:
        raise refuse(file, "", expected=f"at most {TOKENIZER_BYTES} bytes", found="more", remedy="name a tokenizer.json")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        tokenizer = Tokenizer(data, TokenizerInfo(sha256=sha256, vocab_size=1))
    except Exception as error:  # the library raises bare Exception
        raise refuse(file, "", expected="a tokenizer that loads", found=error, remedy="name a tokenizer.json") from error
    ids: dict[bytes, int] = {}
    for number in range(tokenizer.vocab_size):
        spelled = tokenizer.token_bytes(number) or (tokenizer.token_string(number) or "").encode()
        if spelled:
            ids.setdefault(spelled, number)
    return Vocabulary(sha256, tokenizer.vocab_size, ids)


def require_same(what: str, sha256: str | None, size: int | None, teacher: str, their_sha256: str | None, their_size: int | None) -> None:
    """Raises ContractError unless both digests are one: equal sizes are no proof, ids may be of other tokens."""
    if sha256 == their_sha256:
        return
    expected = f"the tokenizer of teacher `{teacher}`, {_described(their_sha256, their_size)}"
    raise ContractError(Violation(what, "/tokenizer", expected, _described(sha256, size)), remedy=SAME)


def _described(sha256: str | None, size: int | None) -> str:
    return f"{'?' if size is None else size} ids, sha256 {sha256 or 'of none'}"
