"""Only what `torch.save` writes is read: an archive with anything around, between or beside its members is refused."""

from __future__ import annotations

import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError
from pipeline.sources.torch_zip import open_zip

MEMBERS = {"a/data.pkl": b"\x80\x02}.", "a/byteorder": b"little", "a/data/0": bytes(16), "a/version": b"3\n"}


def written(path: Path, members: dict[str, bytes] | None = None, *, method: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, raw in ((members or MEMBERS) | more).items():
            file.writestr(name, raw)
    return path.read_bytes()


def named(name: str) -> Callable[[Path], bytes]:
    return lambda path: written(path, **{name: b"x"})


def twice(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        for name, raw in [*MEMBERS.items(), ("a/data.pkx", b"x")]:
            file.writestr(name, raw)
    return path.read_bytes().replace(b"a/data.pkx", b"a/data.pkl")


def link(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        for name, raw in MEMBERS.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, (0o120777 if name == "a/data/0" else 0o600) << 16
            file.writestr(entry, raw)
    return path.read_bytes()


def patched(signature: bytes, at: int, value: bytes, *, last: bool = False) -> Callable[[Path], bytes]:
    """A sound archive with `value` written `at` bytes behind the first (or last) such signature."""

    def make(path: Path) -> bytes:
        raw = bytearray(written(path))
        start = raw.rindex(signature) if last else raw.index(signature)
        raw[start + at : start + at + len(value)] = value
        return bytes(raw)

    return make


def edited(change: Callable[[bytes], bytes]) -> Callable[[Path], bytes]:
    return lambda path: change(written(path))


def with_gap(path: Path) -> bytes:
    """100 hidden bytes before the directory, every offset still right."""
    raw = written(path)
    at = raw.index(b"PK\x01\x02")
    return raw[:at] + bytes(100) + raw[at:-6] + struct.pack("<I", at + 100) + raw[-2:]


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "a pickle": lambda _: b"\x80\x02}.",
    "a tar file": lambda _: b"x" * 257 + b"ustar" + bytes(250),
    "magic only": lambda _: b"PK\x03\x04",
    "an empty archive": lambda _: END + bytes(18),
    "traversal": named("a/../../x"),
    "traversal as the folder": lambda path: written(path, {f"../{name.partition('/')[2]}": raw for name, raw in MEMBERS.items()}),
    "absolute": named("/etc/passwd"),
    "backslashes": named("a\\..\\x"),
    "drive": named("C:/x"),
    "a second folder": named("b/data/1"),
    "no folder": named("data.pkl"),
    "TorchScript": named("a/code/__torch__.py"),
    "TorchScript constants": named("a/constants.pkl"),
    "pt2 archive": named("a/models/model.json"),
    "member with NUL": named("a/data/0\x01"),
    "a name of 1000 characters": named("a" * 1000 + "/data/1"),
    "member twice": twice,
    "symbolic link": link,
    "deflated": lambda path: written(path, method=zipfile.ZIP_DEFLATED),
    "a bomb": lambda path: written(path, {**MEMBERS, "a/data/1": bytes(50_000_000)}, method=zipfile.ZIP_DEFLATED),
    "method lie in the directory": patched(CENTRAL, 10, b"\x08\0"),
    "method lie in the member": patched(LOCAL, 8, b"\x08\0"),
    "encrypted": patched(CENTRAL, 8, b"\1\0"),
    "strong encryption": patched(CENTRAL, 8, b"\x40\0"),
    "flags differ": patched(LOCAL, 6, b"\x08\0"),
    "name differs": patched(LOCAL, 30, b"b"),
    "size differs": patched(LOCAL, 22, b"\x01"),
    "CRC differs": patched(LOCAL, 14, b"\x01\x02\x03\x04"),
    "packed size differs": patched(CENTRAL, 20, b"\xff"),
    "size 2^32-2": patched(CENTRAL, 20, b"\xfe\xff\xff\xff\xfe\xff\xff\xff"),
    "size 2^32-1 without zip64": patched(CENTRAL, 20, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
    "local header elsewhere": patched(CENTRAL, 42, b"\x05"),
    "local header 2^32-2": patched(CENTRAL, 42, b"\xfe\xff\xff\xff"),
    "two members at one place": patched(CENTRAL, 42, struct.pack("<I", 0), last=True),
    "member on disk 1": patched(CENTRAL, 34, b"\1\0"),
    "name length beyond the directory": patched(CENTRAL, 28, b"\xff\xff", last=True),
    "comment length beyond the directory": patched(CENTRAL, 32, b"\xff\xff", last=True),
    "count too small": patched(END, 8, struct.pack("<HH", 3, 3)),
    "count too large": patched(END, 8, struct.pack("<HH", 5, 5)),
    "count 65534": patched(END, 8, struct.pack("<HH", 65534, 65534)),
    "counts differ": patched(END, 8, struct.pack("<H", 3)),
    "directory size lie": patched(END, 12, b"\x01"),
    "directory offset lie": patched(END, 16, b"\x01"),
    "second disk": patched(END, 4, b"\1\0"),
    "comment": edited(lambda raw: raw[:-2] + b"\x02\0hi"),
    "prefix": edited(lambda raw: b"#!/bin/sh\n" + raw),
    "prefix that looks like a member": edited(lambda raw: LOCAL + bytes(26) + raw),
    "suffix": edited(lambda raw: raw + b"x"),
    "a second archive behind": edited(lambda raw: raw + raw),
    "gap": with_gap,
    "cut off": edited(lambda raw: raw[:-30]),
    "zip64 locator to nowhere": edited(lambda raw: raw[:-22] + b"PK\x06\x07" + struct.pack("<IQI", 0, 1 << 62, 1) + raw[-22:]),
    "zip64 record that differs": edited(
        lambda raw: (
            raw[:-22]
            + b"PK\x06\x06"
            + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, 9, 9)
            + b"PK\x06\x07"
            + struct.pack("<IQI", 0, len(raw) - 22, 1)
            + raw[-22:]
        )
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_what_torch_does_not_write(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.pt"
    raw = HOSTILE[name](path)
    path.write_bytes(raw)
    begun = time.process_time()
    with pytest.raises(ContractError):
        open_zip(path)
    assert time.process_time() - begun < 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"]


def test_a_changed_byte_of_data_is_refused_when_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(written(path).replace(bytes(16), bytes(15) + b"\1"))
    archive = open_zip(path)
    assert archive.read("data.pkl", 100) == MEMBERS["a/data.pkl"]
    with pytest.raises(ContractError, match="CRC"):
        archive.view("data/0")


def test_a_member_over_its_limit_is_not_read(tmp_path: Path) -> None:
    written(tmp_path / "x.pt")
    with pytest.raises(ContractError, match="at most 3"):
        open_zip(tmp_path / "x.pt").read("data.pkl", 3)
    with pytest.raises(ContractError, match="no such member"):
        open_zip(tmp_path / "x.pt").view("data/7")


@pytest.mark.parametrize("name", ["x.pt", "step 10 (best)@é.pt", "..odd.pt"])
def test_reads_members_as_zipfile_does(tmp_path: Path, name: str) -> None:
    torch.save({"a": torch.arange(5), "b": torch.ones(300)}, tmp_path / name)
    archive = open_zip(tmp_path / name)
    with zipfile.ZipFile(tmp_path / name) as published:
        assert {entry.filename.partition("/")[2] for entry in published.infolist()} == set(archive.members)
        for entry in published.infolist():
            inner = entry.filename.partition("/")[2]
            assert bytes(archive.view(inner)) == published.read(entry) and archive.members[inner].crc == zlib.crc32(published.read(entry))


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_damaged_bytes_are_read_or_refused_never_more(tmp_path: Path, flips: list[tuple[int, int]], cut: bool) -> None:
    path = tmp_path / "x.pt"
    raw = bytearray(written(path))
    for at, value in flips:
        raw[at % len(raw)] = value
    path.write_bytes(raw[: flips[0][0] % len(raw)] if cut else raw)
    try:
        archive = open_zip(path)
        views = [archive.view(name) for name in archive.members]
    except ContractError:
        return
    assert sum(map(len, views)) <= len(raw)
