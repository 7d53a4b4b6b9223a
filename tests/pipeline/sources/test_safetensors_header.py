"""A safetensors header must describe its file exactly; anything else is refused before the library opens it."""

from __future__ import annotations

import contextlib
import json
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import foreign_files as make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError
from pipeline.sources.safetensors import MAX_TENSORS, check_header


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def of(*entries: Mapping[str, Any], data: int = 8, **more: Any) -> bytes:
    return make.safetensors({**{f"t{i}": value for i, value in enumerate(entries)}, **more}, bytes(data))


SOUND = of(entry(), entry("BF16", (2, 2), (8, 16)), entry("F32", (0, 3), (16, 16)), data=16, __metadata__={"format": "pt"})

HOSTILE = {
    "empty": b"",
    "7 bytes": bytes(7),
    "header length 2^63": make.safetensors({}, length=1 << 63),
    "header length 2^64-1": make.safetensors({}, length=(1 << 64) - 1),
    "header longer than the file": make.safetensors({}, length=100),
    "header over the cap": make.safetensors(b"{}" + b" " * (9 << 20)),
    "header of no bytes": make.safetensors(b""),
    "header shorter than its JSON": make.safetensors({"t": entry()}, bytes(8), length=20),
    "not UTF-8": make.safetensors(b'{"\xff":1}'),
    "byte-order mark": make.safetensors(b"\xef\xbb\xbf{}"),
    "an array": make.safetensors(b"[]"),
    "white space first": make.safetensors(b" {}"),
    "garbage after the object": make.safetensors(b"{}x"),
    "not JSON": make.safetensors(b"{'t':1}"),
    "NaN": make.safetensors(b'{"t":NaN}'),
    "nested 100,000 times": make.safetensors(b'{"t":' + b"[" * 100_000),
    "five million objects": make.safetensors(b'{"t":[' + b"{}," * 2_600_000 + b"{}]}"),
    "duplicate tensor": make.safetensors(b'{"t":%s,"t":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
    "duplicate dtype": make.safetensors(b'{"t":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    "100,000 tensors": make.safetensors({f"t{i}": 0 for i in range(100_000)}),
    "metadata of numbers": of(entry(), __metadata__={"a": 1}),
    "metadata no object": of(entry(), __metadata__=[]),
    "metadata of 2 MB": of(entry(), __metadata__={"a": "x" * (2 << 20)}),
    "entry a number": make.safetensors({"t": 1}, bytes(8)),
    "entry without shape": make.safetensors({"t": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)),
    "entry with more": make.safetensors({"t": {**entry(), "code": "x"}}, bytes(8)),
    "name empty": make.safetensors({"": entry()}, bytes(8)),
    "name of 1000 characters": make.safetensors({"n" * 1000: entry()}, bytes(8)),
    "dtype unknown": of(entry("F31")),
    "dtype a list": of(entry(["F32"])),  # type: ignore[arg-type]
    "dtype a lie": of(entry("F64")),
    "shape a string": of(entry(shape="2")),
    "shape negative": of(entry(shape=[-2])),
    "shape twice negative": of(entry(shape=[-1, -2])),
    "shape of floats": of(entry(shape=[2.0])),
    "shape of booleans": of(entry("F64", [True], (0, 8))),
    "shape of nine dimensions": of(entry(shape=[1] * 8 + [2])),
    "product wraps to 2": of(entry(shape=[1 << 32, 1 << 32, 2])),
    "dimension 2^64": of(entry(shape=[1 << 64])),
    "dimension of 5000 digits": make.safetensors(b'{"t":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}', bytes(8)),
    "begin after end": of(entry(offsets=[8, 0])),
    "begin negative": of(entry(offsets=[-8, 0])),
    "three offsets": of(entry(offsets=[0, 4, 8])),
    "end beyond the file": of(entry(shape=[4], offsets=[0, 16])),
    "overlap": of(entry(), entry(offsets=[4, 12]), data=12),
    "same bytes twice": of(entry(), entry()),
    "gap": of(entry(), entry(offsets=[12, 20]), data=20),
    "gap at the start": of(entry(offsets=[8, 16]), data=16),
    "trailing bytes": of(entry(), data=9),
    "data cut off": of(entry(), data=7),
    "pickle behind the data": of(entry()) + pickle.dumps({"a": 1}),
    "zip behind the data": of(entry()) + b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_a_header_that_lies(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[name])
    begun = time.process_time()
    with pytest.raises(ContractError) as caught:
        check_header(path)
    assert time.process_time() - begun < 1  # 0.14 measured
    assert str(path) in caught.value.lines()[0] and caught.value.remedy


def test_reads_a_sound_header(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(SOUND)
    entries = check_header(path)
    assert [(e.dtype, e.shape, e.begin, e.end) for e in entries.values()] == [("F32", (2,), 0, 8), ("BF16", (2, 2), 8, 16), ("F32", (0, 3), 16, 16)]


def test_reads_as_many_tensors_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    entries = {f"t{i}": entry("U8", [1], [i, i + 1]) for i in range(MAX_TENSORS)}
    path.write_bytes(make.safetensors({**entries, "__metadata__": {"format": "pt"}}, bytes(MAX_TENSORS)))
    assert len(check_header(path)) == MAX_TENSORS


def test_agrees_with_the_library(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "model.safetensors"
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.float64)
    save_file({f"t.{i}": torch.ones(i + 1, 3).to(kind) for i, kind in enumerate(kinds)}, path, {"format": "pt"})
    entries, raw = check_header(path), path.read_bytes()
    data = raw[8 + int.from_bytes(raw[:8], "little") :]
    for name, tensor in load_file(path).items():
        assert entries[name].shape == tuple(tensor.shape)
        assert data[entries[name].begin : entries[name].end] == bytes(tensor.reshape(-1).view(torch.uint8).tolist())


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(SOUND)))
def test_damaged_bytes_are_read_or_refused_never_more(tmp_path: Path, flips: list[tuple[int, int]], stop: int) -> None:
    raw = bytearray(SOUND)
    for at, value in flips:
        raw[at] = value
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw[:stop] if stop % 3 == 0 else raw)
    with contextlib.suppress(ContractError):
        check_header(path)
