"""The tokenizer of a Hugging Face directory: `tokenizer.json` and the small files beside it.

Here: reading them as bounded strict JSON, and proving byte-level BPE. Not here: the model's weights and
configuration (huggingface.py), GGUF (tokenizer.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.contracts.checkpoint import CHAT_TEMPLATE, TOKENIZER
from pipeline.sources.foreign import TokenizerFiles
from pipeline.sources.proofs import map_file, shown
from pipeline.sources.vocabulary import MAX_IDS, MAX_TOKEN_CHARS, Refuser, check_id, check_merges, check_template, ending_ids, prove
from runtime.engine.tokenizer import TOKENIZER_BYTES

CONFIG = "tokenizer_config.json"
_SIDE_BYTES = 4 << 20  # Gemma's tokenizer_config.json, the largest published one, has 1.2 MB
_MAX_ADDED = 1 << 16
_MAX_DIGITS = 40  # `model_max_length` is often 1000000000000000019884624838656
Object = dict[str, Any]


def from_huggingface(directory: Path) -> TokenizerFiles:
    """The tokenizer of a directory as `save_pretrained` writes it. `tokenizer.json` is taken over byte for byte.

    Names of special tokens come from `tokenizer_config.json`, else `special_tokens_map.json`; further ids that end a text from
    `generation_config.json`; the chat template from `chat_template.jinja`, else from the configuration. Raises ContractError.
    """
    refuser = Refuser(directory / TOKENIZER)
    data = _bytes(directory / TOKENIZER, TOKENIZER_BYTES)
    document = _object(refuser, data)
    ids, control = _check_document(refuser, document)
    config = _side(directory / CONFIG)
    names = {**_side(directory / "special_tokens_map.json"), **{key: value for key, value in config.items() if value is not None}}
    settings = Refuser(directory / CONFIG)

    def named(key: str) -> int | None:
        return _id_of(settings, key, names.get(key), ids)

    generation = _side(directory / "generation_config.json")
    ends = generation.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    beside = Refuser(directory / "generation_config.json")
    declared = [check_id(beside, "/eos_token_id", end, ids) for end in ends[:64]]
    leading = prove(refuser, data)
    bos_id = named("bos_token")
    return TokenizerFiles(
        tokenizer_json=data,
        bos_id=bos_id,
        eos_ids=ending_ids((named("eos_token"), *declared), control),
        pad_id=named("pad_token"),
        add_bos=bos_id is not None and (leading[:1] == [bos_id] or config.get("add_bos_token") is True),
        vocab_size=max(ids.values()) + 1,
        chat_template=_template(settings, directory, config.get("chat_template")),
    )


def _bytes(path: Path, limit: int) -> bytes:
    mapped = map_file(path)
    with mapped:
        if len(mapped) > limit:
            raise Refuser(path).bad("", f"at most {limit} bytes", len(mapped))
        return bytes(mapped)


def _side(path: Path) -> Object:
    """A file that may be absent: then it says nothing."""
    return _object(Refuser(path), _bytes(path, _SIDE_BYTES)) if path.exists() else {}


def _object(refuser: Refuser, data: bytes) -> Object:
    """Strict JSON of foreign bytes. Not interlock.contracts.strict.parse_json: published files hold
    integers beyond 2^53, which a contract never does."""

    def pairs(items: list[tuple[str, Any]]) -> Object:
        made = dict(items)
        if len(made) != len(items):
            raise ValueError("a key twice in one object")
        return made

    def integer(text: str) -> int:
        if len(text) > _MAX_DIGITS:
            raise ValueError("an integer of more than 40 digits")
        return int(text)

    def constant(text: str) -> Any:
        raise ValueError(f"the number {text}")

    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_int=integer, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise refuser.bad("", "one strict JSON object", error) from None
    if not isinstance(document, dict):
        raise refuser.bad("", "one strict JSON object", shown(document))
    return document


def _check_document(refuser: Refuser, document: Object) -> tuple[dict[str, int], dict[str, int]]:
    """All ids by token, and those of control tokens. Raises ContractError for anything but deterministic byte-level BPE."""
    model, decoder = document.get("model"), document.get("decoder")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("merges"), list):
        raise refuser.bad("/model/type", "`BPE`, with merges", shown(model.get("type") if isinstance(model, dict) else model))
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        found = shown(decoder.get("type") if isinstance(decoder, dict) else decoder)
        raise refuser.bad("/decoder/type", "`ByteLevel`: only byte-level BPE is supported", found)
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):  # random splits; pieces whose text is not their bytes
            raise refuser.bad(f"/model/{key}", "nothing", shown(model[key]))
    ids = _check_ids(refuser, model.get("vocab"))
    check_merges(refuser, "/model/merges", model["merges"], ids)
    control = _check_added(refuser, document.get("added_tokens") or [], ids)
    return ids, control


def _check_added(refuser: Refuser, added: object, ids: dict[str, int]) -> dict[str, int]:
    """The control tokens among the added ones, by spelling. Enters all added ones into `ids`."""
    if not isinstance(added, list) or len(added) > _MAX_ADDED:
        raise refuser.bad("/added_tokens", f"a list of at most {_MAX_ADDED}", f"{len(added)} entries" if isinstance(added, list) else shown(added))
    control: dict[str, int] = {}
    owners = {i: token for token, i in ids.items()}
    for n, entry in enumerate(added):
        token, number, special = (entry.get(key) for key in ("content", "id", "special")) if isinstance(entry, dict) else (None, None, None)
        where = f"/added_tokens/{n}"
        if not isinstance(token, str) or not 1 <= len(token) <= MAX_TOKEN_CHARS or not isinstance(special, bool):
            raise refuser.bad(where, f"an added token of 1 to {MAX_TOKEN_CHARS} characters", shown(token))
        i = _as_id(number)
        if i is None or owners.setdefault(i, token) != token or ids.setdefault(token, i) != i:
            expected = "an id of its own below 2^20, the vocabulary's where the token is in it"
            raise refuser.bad(f"{where}/id", expected, f"{shown(number)} for {shown(token)}")
        if special:
            control[token] = i
    return control


def _as_id(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_IDS else None


def _check_ids(refuser: Refuser, vocab: object) -> dict[str, int]:
    if not isinstance(vocab, dict) or not 1 <= len(vocab) <= MAX_IDS:
        raise refuser.bad("/model/vocab", f"1 to {MAX_IDS} tokens", f"{len(vocab)}" if isinstance(vocab, dict) else shown(vocab))
    owners: dict[int, str] = {}
    for token, i in vocab.items():
        if not 1 <= len(token) <= MAX_TOKEN_CHARS:
            raise refuser.bad("/model/vocab", f"tokens of 1 to {MAX_TOKEN_CHARS} characters", shown(token))
        if _as_id(i) is None or i in owners:
            raise refuser.bad("/model/vocab", "ids below 2^20, each once", f"{shown(i)} for {shown(token)}")
        owners[i] = token
    return dict(vocab)


def _id_of(refuser: Refuser, key: str, value: object, ids: Mapping[str, int]) -> int | None:
    """The id of a special token that is named by its text, or by a record with the text in `content`."""
    token = value.get("content") if isinstance(value, dict) else value
    if token is None:
        return None
    if not isinstance(token, str) or token not in ids:
        raise refuser.bad(f"/{key}", "a token of the vocabulary", shown(token))
    return ids[token]


def _template(refuser: Refuser, directory: Path, configured: object) -> str | None:
    path = directory / CHAT_TEMPLATE
    if path.exists():
        try:
            return check_template(Refuser(path), "", _bytes(path, TOKENIZER_BYTES).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise Refuser(path).bad("", "UTF-8", f"other bytes at offset {error.start}") from None
    if isinstance(configured, list):  # several templates by name: the one named `default` is for chat
        by_name = {entry.get("name"): entry.get("template") for entry in configured if isinstance(entry, dict) and isinstance(entry.get("name"), str)}
        configured = by_name.get("default")
    return check_template(refuser, "/chat_template", configured)
