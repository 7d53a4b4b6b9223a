"""Text to ids and back, over the `tokenizers` library: control tokens only where they are meant, and text that streams out in whole characters.

Here: a loaded byte-level BPE tokenizer. Not here: foreign formats (pipeline/sources/tokenizer.py), chat templates (chat.py), which id ends a
text (turn.py).
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import tokenizers

from interlock.contracts.checkpoint import CHAT_TEMPLATE, TOKENIZER, TokenizerInfo
from interlock.errors import UsageError, refuse

TOKENIZER_BYTES = 64 << 20  # the largest published tokenizer.json (Gemma, 262,144 ids) has 33 MB
_IMPORT_AGAIN = "import the model again: `interlock import`"
# A token that looks like this is a control token whatever its flag says: converters have lost the flag often enough (llama.cpp's rule, too).
_CONTROL_SHAPE = re.compile(r"<\|[^|<>\s]{1,64}\|>")


class Tokenizer:
    """A checkpoint's tokenizer. Safe to share between threads."""

    def __init__(self, tokenizer_json: bytes, info: TokenizerInfo, *, chat_template: str | None = None) -> None:
        """Raises whatever the library raises for a file that no import has proven (pipeline/sources/tokenizer.py does, in a child)."""
        self.info = info
        self.chat_template = chat_template
        self._inner = _load(tokenizer_json)
        named = {info.bos_id, info.pad_id, info.bot_id, info.eot_id, *info.eos_ids}
        added = self._inner.get_added_tokens_decoder()
        control = {i for i, token in added.items() if token.special or i in named or _CONTROL_SHAPE.fullmatch(token.content)}
        if unmarked := {i for i in control if not added[i].special}:
            self._inner = _load(_mark_special(tokenizer_json, unmarked))
        self._control_ids = frozenset(control)
        self._control_strings = tuple(added[i].content for i in sorted(control))
        self._lock = threading.Lock()  # `encode_special_tokens` is a setting of the shared object

    @classmethod
    def load(cls, directory: Path, info: TokenizerInfo) -> Tokenizer:
        """From a checkpoint or deployment directory, by what its contract says. Raises ContractError for any other file than the contract names."""
        path = directory / TOKENIZER
        data = _read(path, TOKENIZER_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        if digest != info.sha256:
            raise refuse(path, "", expected=f"sha256 {info.sha256}", found=digest, remedy=_IMPORT_AGAIN)
        template = _read(directory / CHAT_TEMPLATE, TOKENIZER_BYTES) if info.has_chat_template else None
        try:
            tokenizer = cls(data, info, chat_template=template.decode() if template is not None else None)
        except Exception as error:  # the library raises bare Exception
            raise refuse(path, "", expected="a tokenizer that loads", found=error, remedy=_IMPORT_AGAIN) from error
        if tokenizer.vocab_size != info.vocab_size:
            raise refuse(path, "", expected=f"{info.vocab_size} ids", found=tokenizer.vocab_size, remedy=_IMPORT_AGAIN)
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return max(self._inner.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def control_strings(self) -> tuple[str, ...]:
        """What control tokens look like when typed, by ascending id."""
        return self._control_strings

    def encode(self, text: str, *, control: bool = False) -> list[int]:
        """The ids of `text`, without any that the model adds around it.

        A control token's characters in `text` become that token only where `control` is set: for text of ours, never for a user's. A byte
        without a token is dropped, as in the original tokenizers. Raises UsageError for text that is not Unicode (a lone surrogate).
        """
        return list(self._encode(text, control).ids)

    def encode_prompt(self, text: str) -> list[int]:
        """`encode` for a text that starts a context: with the beginning-of-text token where the model was trained with one."""
        start = [self.info.bos_id] if self.info.add_bos and self.info.bos_id is not None else []
        return start + self.encode(text)

    def encode_rendered(self, text: str, reveal: Callable[[str], str]) -> list[int]:
        """Ids of a rendered template. Control tokens are found in `text` as it stands; `reveal` then puts typed ones back, as characters."""
        if reveal(text) == text:
            return self.encode(text, control=True)
        found = self._encode(text, True)
        ids: list[int] = []
        end = 0
        for token, (start, stop) in zip(found.ids, found.offsets, strict=True):
            if token in self._control_ids:  # its span includes the white space that it swallows (`lstrip`, `rstrip`)
                ids += [*self.encode(reveal(text[end:start])), token]
                end = stop
        return ids + self.encode(reveal(text[end:]))

    def _encode(self, text: str, control: bool) -> tokenizers.Encoding:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the text is not Unicode at character {error.start}", remedy="give text in UTF-8") from None
        with self._lock:
            self._inner.encode_special_tokens = not control
            return self._inner.encode(text, add_special_tokens=False)

    def token_string(self, token: int | None) -> str | None:
        """A token as the vocabulary spells it; None for no token or an id that has none."""
        return None if token is None else self._inner.id_to_token(token)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; none for a control token, or for an id beyond the vocabulary (embeddings are often padded)."""
        piece = None if token in self._control_ids else self._inner.id_to_token(token)
        if piece is None:
            return b""
        try:
            return bytes(_BYTE_OF[char] for char in piece)
        except KeyError:  # an added token is spelled in plain text
            return piece.encode()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, control tokens left out, U+FFFD for bytes that are not UTF-8."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")


class Stream:
    """Ids in, whole characters out: the pushes and the finish together are `decode` of all ids, with the control tokens that are `shown` spelled."""

    def __init__(self, tokenizer: Tokenizer, shown: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._shown = {token: (tokenizer.token_string(token) or "").encode() for token in shown}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that `token` completes: empty while a character's bytes are still missing."""
        return self._decoder.decode(self._shown.get(token) or self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """U+FFFD if the last character stayed incomplete, else nothing."""
        return self._decoder.decode(b"", final=True)


def byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary: itself where printable, else from U+0100 on.

    Source: GPT-2 `encoder.py`, `bytes_to_unicode`.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(rest)}


_BYTE_OF = {char: byte for byte, char in byte_alphabet().items()}

# Each provokes another part of a pre-tokenizer's pattern; the long runs make a pattern with exponential backtracking show itself.
_PROBES = (
    "Hello, world! It's 12345 o'clock.\n\n\tnaïve 中文字 שלום 👩‍👩‍👧 \u0000\x7f",
    *(char * 2000 + "!" for char in "aA1 \n\té中'_-<"),
    "aB1 " * 500,
)


def probe(request: dict[str, str]) -> dict[str, object]:
    """Load and use a foreign tokenizer, in a child: `{"tokenizer": JSON text}` to the ids that it puts before a text, `{"leading": [int]}`.

    Raises whatever the library raises, its panics included.
    """
    inner = _load(request["tokenizer"].encode())
    for text in _PROBES:
        inner.decode(inner.encode(text, add_special_tokens=False).ids)
    bare = inner.encode("a", add_special_tokens=False).ids
    full = inner.encode("a").ids
    leading: Sequence[int] = full[: len(full) - len(bare)] if full[len(full) - len(bare) :] == bare else ()
    return {"leading": list(leading)}


def _load(tokenizer_json: bytes) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer.from_str(tokenizer_json.decode())
    inner.no_truncation()  # some published files cut every text at 512 ids
    inner.no_padding()
    return inner


def _mark_special(tokenizer_json: bytes, ids: set[int]) -> bytes:
    document = json.loads(tokenizer_json)
    for token in document["added_tokens"]:
        token["special"] = token["special"] or token["id"] in ids
    return json.dumps(document).encode()


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise refuse(path, "", expected="a readable file", found=error.strerror or error, remedy=_IMPORT_AGAIN) from None
    if len(data) > limit:
        raise refuse(path, "", expected=f"at most {limit} bytes", found="more", remedy=_IMPORT_AGAIN)
    return data
