"""Contracts under random editing: each is refused, or means what is written; never a crash, never a slow one."""

from __future__ import annotations

import contextlib
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.artifacts import resealed

from interlock.contracts import io
from interlock.errors import ContractError

GOLDEN = Path(__file__).parent.parent / "interlock" / "contracts" / "golden"
ODD = [
    "null", "true", "0", "-0", "1e5", "1e999", "NaN", "9" * 20, '""', '"\\u0000"', '"\\ud800"', "[]", "{}", "[[]]", '{"kind":"package"}', "2", '"2"',
    '"../x"', '"' + "f" * 64 + '"', '"' + "x" * 3000 + '"',
]  # fmt: skip


def bytes_edited(rng: random.Random, data: bytes) -> bytes:
    """A piece cut, repeated, moved or replaced."""
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.choice((0, 1, 2, 8, 64)))
    other = rng.randrange(len(data))
    piece = rng.choice((b"", rng.randbytes(rng.randrange(4)), data[other : other + 30], rng.choice(ODD).encode(), b'"', b"{", b"]", b"\\"))
    return data[:begin] + piece + data[end:]


def value_edited(rng: random.Random, value: Any) -> Any:
    """Another value at one place."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return _parsed(rng.choice(ODD))
    key = rng.choice(sorted(value)) if isinstance(value, dict) else rng.randrange(len(value))
    edited = dict(value) if isinstance(value, dict) else list(value)
    if rng.random() < 0.1:
        del edited[key]
    else:
        edited[key] = value_edited(rng, value[key])
    return edited


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir()))
def test_edited_contracts_are_refused_or_mean_what_they_say(tmp_path: Path, version: str, extent: bool) -> None:
    """50,000 of each version in the full run, 1,500 in the short one: half of them edits of bytes, half of values under true digests."""
    rng = random.Random(version)
    documents = [path for file in io.BY_FILE for path in sorted((GOLDEN / version).rglob(file)) if path.stat().st_size < 10_000]
    refused = 0
    for number in range(50_000 if extent else 1_500):
        path = rng.choice(documents)
        data = path.read_bytes()
        if number % 2:
            document = value_edited(rng, json.loads(data))
            with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError):  # no object, no canonical form, no version
                document = resealed(document)
            data = json.dumps(document).encode()
        else:
            data = bytes_edited(rng, data)
        file = tmp_path / path.name
        file.write_bytes(data)
        started = time.process_time()
        try:
            told = io.read_contract(file, io.BY_FILE[path.name]).model_dump(mode="json")
            assert holds(told, json.loads(data)), (path, number)
        except ContractError as error:
            refused += 1
            assert {violation.file for violation in error.violations} == {str(file)} and error.remedy
        assert time.process_time() - started < 0.5, (path, number)
    assert refused > 500


def holds(told: Any, document: Any) -> bool:
    """Whether `told` has every value of `document`; fields that were left out have their defaults."""
    if isinstance(told, dict) and isinstance(document, dict):
        return all(key in told and holds(told[key], value) for key, value in document.items())
    if isinstance(told, list) and isinstance(document, list):
        return len(told) == len(document) and all(map(holds, told, document))
    return bool(told == document)
