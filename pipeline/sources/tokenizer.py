"""The tokenizer inside a GGUF file's metadata, as the files that the `tokenizers` library reads.

Here: byte-level BPE (`tokenizer.ggml.model` is `gpt2`), its vocabulary, merges and named ids. Not here: the header's bytes (gguf_header.py), the
splitting patterns (pretokenizers.py), Hugging Face directories (tokenizer_files.py, whose reader this module offers too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.sources.foreign import TokenizerFiles
from pipeline.sources.pretokenizers import PRE_TOKENIZERS, PreTokenizer, byte_level
from pipeline.sources.proofs import shown
from pipeline.sources.tokenizer_files import from_huggingface
from pipeline.sources.vocabulary import Refuser, check_id, check_merges, check_template, check_tokens, compact_json, ending_ids, prove
from runtime.engine.tokenizer import byte_alphabet

__all__ = ["from_gguf", "from_huggingface"]

_PREFIX = "tokenizer.ggml."
# Values of `token_type` in llama.cpp's gguf format. 6 (a byte of a sentencepiece vocabulary) has no place in a byte-level one.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5


def from_gguf(metadata: Mapping[str, object], file: Path) -> TokenizerFiles:
    """The tokenizer of a GGUF file, from its metadata values by key. `file` is named in errors only.

    Texts end at the declared end-of-text, end-of-turn and end-of-message ids and at control tokens of the spellings in vocabulary.END_TOKENS.
    A byte without a token is dropped when encoding, as llama.cpp does: `unknown_token_id` is checked, and not used (SmolLM2 names its end of
    text there).
    Raises ContractError: another kind of tokenizer, an unknown pre-tokenizer, any inconsistency, a tokenizer that the library cannot run.
    """
    refuser = Refuser(file)
    _require(refuser, metadata, "model", ("gpt2",), "byte-level BPE")
    pre = PRE_TOKENIZERS[_require(refuser, metadata, "pre", tuple(PRE_TOKENIZERS), "a known pre-tokenizer")]
    tokens = _sequence(refuser, metadata, "tokens")
    ids = check_tokens(refuser, f"{_PREFIX}tokens", tokens)
    kinds = _kinds(refuser, metadata, ids)
    merges = _sequence(refuser, metadata, "merges")
    check_merges(refuser, f"{_PREFIX}merges", merges, ids)

    def named(key: str) -> int | None:
        return check_id(refuser, f"{_PREFIX}{key}_token_id", metadata.get(f"{_PREFIX}{key}_token_id"), tokens)

    named("unknown")
    bos_id = named("bos")
    control = {token: i for token, i in ids.items() if kinds[i] in (_UNKNOWN, _CONTROL)}
    data = compact_json(_document(ids, kinds, merges, pre))
    prove(refuser, data)
    return TokenizerFiles(
        tokenizer_json=data,
        bos_id=bos_id,
        eos_ids=ending_ids((named("eos"), named("eot"), named("eom")), control),
        pad_id=named("padding"),
        add_bos=_add_bos(refuser, metadata, pre, bos_id),
        vocab_size=len(tokens),
        chat_template=check_template(refuser, "tokenizer.chat_template", metadata.get("tokenizer.chat_template")),
    )


def _require(refuser: Refuser, metadata: Mapping[str, object], key: str, supported: tuple[str, ...], what: str) -> str:
    value = metadata.get(_PREFIX + key)
    if not isinstance(value, str) or value not in supported:
        names = ", ".join(f"`{name}`" for name in supported)
        raise refuser.bad(_PREFIX + key, f"{what}: {names}", shown(value), remedy="import the model from its Hugging Face directory (`hf:DIR`)")
    return value


def _sequence(refuser: Refuser, metadata: Mapping[str, object], key: str) -> Sequence[object]:
    value = metadata.get(_PREFIX + key)
    if not isinstance(value, (list, tuple)):
        raise refuser.bad(_PREFIX + key, "an array", shown(value))
    return value


def _kinds(refuser: Refuser, metadata: Mapping[str, object], ids: Mapping[str, int]) -> list[int]:
    """Each token's type. A normal token must be spelled in the byte alphabet, an added one without control characters other than white space."""
    where = f"{_PREFIX}token_type"
    kinds = _sequence(refuser, metadata, "token_type")
    if len(kinds) != len(ids):
        raise refuser.bad(where, f"{len(ids)} types, one for each token", len(kinds))
    alphabet = frozenset(byte_alphabet().values())
    checked: list[int] = []
    for (token, i), kind in zip(ids.items(), kinds, strict=True):
        if not isinstance(kind, int) or kind not in (_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED):
            raise refuser.bad(f"{where}/{i}", "a token type from 1 to 5", shown(kind))
        if kind == _NORMAL and not alphabet.issuperset(token):
            raise refuser.bad(f"{_PREFIX}tokens/{i}", "a token spelled in the 256 characters of byte-level BPE", shown(token))
        if kind != _NORMAL and any(not char.isprintable() and char not in "\t\n\r" for char in token):
            raise refuser.bad(f"{_PREFIX}tokens/{i}", "an added token of printable characters", shown(token))
        checked.append(int(kind))
    return checked


def _add_bos(refuser: Refuser, metadata: Mapping[str, object], pre: PreTokenizer, bos_id: int | None) -> bool:
    value = metadata.get(f"{_PREFIX}add_bos_token", pre.add_bos and bos_id is not None)
    if not isinstance(value, bool):
        raise refuser.bad(f"{_PREFIX}add_bos_token", "true or false", shown(value))
    if value and bos_id is None:
        raise refuser.bad(f"{_PREFIX}bos_token_id", "an id, because `add_bos_token` is true", "nothing")
    return value


def _document(ids: Mapping[str, int], kinds: Sequence[int], merges: Sequence[object], pre: PreTokenizer) -> dict[str, object]:
    """The content of `tokenizer.json`, in the form that the `tokenizers` library writes."""
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": kinds[i] != _USER_DEFINED}
        for token, i in ids.items()
        if kinds[i] in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": pre.ignore_merges,
        "vocab": dict(ids),
        "merges": [merge.split(" ") if isinstance(merge, str) else merge for merge in merges],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": pre.normalizer,
        "pre_tokenizer": pre.components[0] if len(pre.components) == 1 else {"type": "Sequence", "pretokenizers": list(pre.components)},
        "post_processor": None,
        "decoder": byte_level(),
        "model": model,
    }
