"""What every foreign tokenizer must prove: a vocabulary and merges that fit together, and a library that survives them.

Here: checks that do not depend on where the tokenizer was stored. Not here: GGUF metadata (tokenizer.py), Hugging Face files (tokenizer_files.py).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from interlock.errors import ContractError, refuse
from pipeline.sources.foreign import TokenizerFiles
from pipeline.sources.proofs import shown
from runtime.engine import sandbox
from runtime.engine.chat import TEMPLATE_BYTES

REMEDY = "take the model from its publisher again, or convert its tokenizer to a byte-level BPE `tokenizer.json`"
MAX_IDS = 1 << 20  # the largest published vocabulary has 262,144
MAX_TOKEN_CHARS = 1024  # the longest published tokens are runs of 256 characters
MAX_MERGES = 1 << 21

# Tokens that end a turn or a text whatever else the file says, as ChatML, Llama 3 and GPT-2 descendants spell them. Only a control token counts.
END_TOKENS = frozenset({"<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>"})


class Refuser:
    """Builds this file's ContractErrors: `bad(where, expected, found)`."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def bad(self, where: str, expected: str, found: object, *, remedy: str = REMEDY) -> ContractError:
        return refuse(self.file, where, expected=expected, found=found, remedy=remedy)


def check_tokens(refuser: Refuser, where: str, tokens: Sequence[object]) -> dict[str, int]:
    """`{token: id}` of a list of tokens by id. Raises ContractError: no or too many, empty, too long, twice."""
    if not 1 <= len(tokens) <= MAX_IDS:
        raise refuser.bad(where, f"1 to {MAX_IDS} tokens", len(tokens))
    ids: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if not isinstance(token, str) or not 1 <= len(token) <= MAX_TOKEN_CHARS:
            raise refuser.bad(f"{where}/{i}", f"a token of 1 to {MAX_TOKEN_CHARS} characters", shown(token))
        if token in ids:
            raise refuser.bad(f"{where}/{i}", "each token once", f"{shown(token)} as id {ids[token]} and as id {i}")
        ids[token] = i
    return ids


def check_merges(refuser: Refuser, where: str, merges: Sequence[object], ids: Collection[str]) -> None:
    """Each merge is a pair of tokens whose concatenation is a token, once: the library panics on others. A pair may be `"a b"` or `["a", "b"]`."""
    if len(merges) > MAX_MERGES:
        raise refuser.bad(where, f"at most {MAX_MERGES} merges", len(merges))
    seen: set[tuple[str, str]] = set()
    for i, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, (list, tuple)) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
            raise refuser.bad(f"{where}/{i}", "two tokens with one space between them", shown(merge))
        pair = (parts[0], parts[1])
        for piece in (*pair, "".join(pair)):
            if piece not in ids:
                raise refuser.bad(f"{where}/{i}", "parts and a result that are in the vocabulary", f"{shown(piece)}, which is not")
        if pair in seen:
            raise refuser.bad(f"{where}/{i}", "each merge once", f"{shown(merge)} again")
        seen.add(pair)


def check_id(refuser: Refuser, where: str, value: object, ids: Mapping[str, int] | Sequence[object]) -> int | None:
    """A token id of the vocabulary, or None where the file has none."""
    if value is None:
        return None
    known: Collection[object] = ids.values() if isinstance(ids, Mapping) else range(len(ids))
    if isinstance(value, bool) or not isinstance(value, int) or value not in known:
        raise refuser.bad(where, f"the id of one of {len(ids)} tokens", shown(value))
    return value


def check_template(refuser: Refuser, where: str, template: object) -> str | None:
    """A chat template's text within the size that a render accepts, or None. It is not run here: it is run only in a limited child."""
    if template is None:
        return None
    if not isinstance(template, str):
        raise refuser.bad(where, "a text", shown(template))
    try:
        size = len(template.encode())
    except UnicodeEncodeError:
        raise refuser.bad(where, "Unicode text", "a lone surrogate") from None
    if size > TEMPLATE_BYTES:
        raise refuser.bad(where, f"a template of at most {TEMPLATE_BYTES} bytes", f"{size} bytes")
    return template


def ending_ids(declared: Iterable[int | None], control: Mapping[str, int]) -> tuple[int, ...]:
    """Ids that end a text: those that the file declares, in its order, then control tokens spelled as in END_TOKENS, by id."""
    known = sorted(control[token] for token in END_TOKENS & control.keys())
    return tuple(dict.fromkeys(i for i in (*declared, *known) if i is not None))


def prove(refuser: Refuser, tokenizer_json: bytes) -> list[int]:
    """Load the tokenizer and encode and decode long and odd texts with it, in a child with 5 s of computing and 512 MB.

    Returns the ids that it puts before a text. Raises ContractError. The library panics (a BaseException, in this process a traceback) on some
    merge tables and hangs on some patterns (tokenizers#2094, #2060).
    """
    try:
        reply = sandbox.call("runtime.engine.tokenizer:probe", {"tokenizer": tokenizer_json.decode()})
    except sandbox.ChildFailed as failed:
        raise refuser.bad("", "a tokenizer that encodes and decodes within its limits", failed) from None
    assert isinstance(reply, dict)
    return [int(i) for i in reply["leading"]]


def compact_json(document: object) -> bytes:
    """UTF-8 without spaces, keys in the order given: what is written as `tokenizer.json`."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def renamed(files: TokenizerFiles, names: Mapping[str, str], source: str) -> TokenizerFiles:
    """The same tokenizer with control tokens called otherwise, ids and all else kept. Raises ContractError for a token that is no control token, and
    for a name that is taken."""
    document = json.loads(files.tokenizer_json)
    added = {entry["content"]: entry for entry in document["added_tokens"]}
    vocabulary = document["model"]["vocab"]
    for old, new in names.items():
        if old not in added or not added[old]["special"]:
            control = ", ".join(name for name, entry in added.items() if entry["special"])
            raise refuse(source, "/added_tokens", expected=f"a control token `{old}`", found=control, remedy="name two of the tokens that are there")
        if new in added or new in vocabulary:
            raise refuse(source, "/added_tokens", expected=f"no token `{new}` yet", found="one", remedy="leave out latent_tokens: they are there")
        added[old]["content"] = new
    document["model"]["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    return replace(files, tokenizer_json=compact_json(document))
