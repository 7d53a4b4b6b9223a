"""Two tokenizers, and two runtime configurations.

Here: what of their content differs. Not here: whether a tokenizer is sound (pipeline/sources/tokenizer.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.contracts import io
from interlock.contracts.strict import parse_json
from pipeline.comparison.fields import compare_documents
from pipeline.comparison.records import Change, Found
from runtime.config import RuntimeConfig

_REMEDY = "import the checkpoint again with its tokenizer"
_LIMIT, _VALUES = 64 << 20, 16 << 20  # a vocabulary of 2^20 tokens and twice as many merges


def compare_configs(a: Path, b: Path) -> Found:
    """Two runtime_config.json. Raises ContractError."""
    return compare_documents(a.name, RuntimeConfig.from_file(a).model_dump(mode="json"), RuntimeConfig.from_file(b).model_dump(mode="json"))


def compare_tokenizers(a: Path, b: Path) -> Found:
    """Two tokenizer.json of other bytes: ids, merges, and every other section. Raises ContractError."""
    one, other = _read(a), _read(b)
    mine, theirs = _vocabulary(one), _vocabulary(other)
    told: dict[str, tuple[str, str]] = {}
    alone, missing = sorted({*mine} - {*theirs}), sorted({*theirs} - {*mine})
    if alone or missing:
        told["/model/vocab"] = (
            f"{len(mine)} tokens, {len(alone)} of its own{_some(alone)}",
            f"{len(theirs)} tokens, {len(missing)} of its own{_some(missing)}",
        )
    if moved := sorted(token for token in {*mine} & {*theirs} if mine[token] != theirs[token]):
        first = moved[0]
        told["/model/vocab ids"] = (f"{len(moved)} other ids, {json.dumps(first)} is {mine[first]}", f"{json.dumps(first)} is {theirs[first]}")
    for place, x, y in _sections(one, other):
        told[place] = (_summary(x), _summary(y))
    return Found(changes=tuple(Change(part=a.name, place=place, weight="decides", a=x, b=y) for place, (x, y) in told.items()))


def _read(file: Path) -> dict[str, Any]:
    with io.open_regular(file) as stream:
        return parse_json(stream.read(_LIMIT + 1), str(file), limit=_LIMIT, values=_VALUES, remedy=_REMEDY)


def _model(document: Mapping[str, Any]) -> dict[str, Any]:
    model = document.get("model")
    return model if isinstance(model, dict) else {}


def _vocabulary(document: Mapping[str, Any]) -> dict[str, Any]:
    vocab = _model(document).get("vocab")
    return vocab if isinstance(vocab, dict) else {}


def _sections(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Every part but the vocabulary, where it differs."""
    one, other = ({**document, **{f"model/{key}": value for key, value in _model(document).items()}} for document in (a, b))
    found = [(f"/{key}", one.get(key), other.get(key)) for key in dict.fromkeys((*one, *other)) if key not in ("model", "model/vocab")]
    return [(place, x, y) for place, x, y in found if x != y]


def _summary(value: Any) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


def _some(tokens: list[str]) -> str:
    return f" ({', '.join(json.dumps(token, ensure_ascii=False) for token in tokens[:4])}{', …' if len(tokens) > 4 else ''})" if tokens else ""
