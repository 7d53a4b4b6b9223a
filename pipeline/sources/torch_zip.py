"""The zip container of a `.pt` file, by our own strict parser: exactly what `torch.save` writes, and nothing around or between it.

Here: where each member's bytes are. Not here: what they mean (torchfile.py). One parser reads the file, so that no scanner and loader can
disagree about it; nothing is ever extracted, and only stored (uncompressed) members are read, so that nothing can inflate.
Format: PKWARE APPNOTE 6.3 sections 4.3 to 4.5; torch writes stored members with data descriptors and a zip64 end record.
"""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from interlock.errors import ContractError, refuse
from pipeline.sources.proofs import map_file, shown

REMEDY = "save the checkpoint again with `torch.save(checkpoint, path)` of a current torch; a file changed on its way is not used"
MAX_MEMBERS = 1 << 16
MAX_NAME = 256

LOCAL, CENTRAL, END, END64, LOCATOR64 = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
# Bit 3: sizes follow the data; bit 11: UTF-8 names. Any other bit (encryption, patches) changes how the bytes are read.
KNOWN_FLAGS = (1 << 3) | (1 << 11)
FULL32 = 0xFFFFFFFF
# The top folder is the stem of the file that was saved.
MEMBER = re.compile(
    r"(?!\.\.?/)[^/\\\x00-\x1f]+/(data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d{1,6})"
)


@dataclass(frozen=True)
class Member:
    """Bytes [begin, begin + size) of the file; `crc` as the central directory has it."""

    begin: int
    size: int
    crc: int


@dataclass(frozen=True)
class TorchZip:
    """The members without the archive's top folder: `data.pkl`, `byteorder`, `data/0`, ..."""

    path: Path
    mapped: mmap.mmap
    members: Mapping[str, Member]
    _checked: set[str] = field(default_factory=set)

    def read(self, name: str, limit: int) -> bytes:
        """A copy of a small member. Raises ContractError if it has more than `limit` bytes, before reading them."""
        if name in self.members and self.members[name].size > limit:
            raise refuse(self.path, name, expected=f"at most {limit} bytes", found=f"{self.members[name].size}", remedy=REMEDY)
        return bytes(self.view(name))

    def view(self, name: str) -> memoryview:
        """The member's bytes, not copied. Raises ContractError if it is missing or its CRC is wrong (computed once)."""
        if name not in self.members:
            raise refuse(self.path, name, expected="this member of the archive", found="no such member", remedy=REMEDY)
        member = self.members[name]
        view = memoryview(self.mapped)[member.begin : member.begin + member.size]
        if name not in self._checked and zlib.crc32(view) != member.crc:
            raise refuse(self.path, name, expected=f"CRC {member.crc:08x}", found=f"CRC {zlib.crc32(view):08x}", remedy=REMEDY)
        self._checked.add(name)
        return view


def open_zip(path: Path) -> TorchZip:
    """The archive of a `.pt` file. Raises ContractError for anything that `torch.save` does not write."""
    mapped = map_file(path)
    if mapped[:4] != LOCAL:
        found = "a pickle or tar file, as torch wrote before 1.6" if mapped[:1] == b"\x80" or mapped[257:262] == b"ustar" else shown(mapped[:8])
        raise _bad(path, "magic", "a zip archive, as `torch.save` writes since 1.6", found)
    start, size, count = _end(path, mapped)
    members: dict[str, Member] = {}
    tops = set()
    at, spans = start, []
    for _ in range(count):
        name, member, local, at = _entry(path, mapped, at, start + size)
        top, _, inner = name.partition("/")
        tops.add(top)
        if inner in members:
            raise _bad(path, shown(name), "each member once", "the name twice")
        members[inner] = member
        spans.append((local, member.begin + member.size))
    if at != start + size or len(tops) != 1:
        raise _bad(path, "central directory", "members of one folder, filling the directory", f"{count} members of {len(tops)} folders")
    _check_layout(path, mapped, spans, start)
    return TorchZip(path, mapped, members)


def _end(path: Path, mapped: mmap.mmap) -> tuple[int, int, int]:
    """Offset, size and member count of the central directory, from the end record, which must be the last 22 bytes."""
    end = len(mapped) - 22
    if end < 0 or mapped[end : end + 4] != END:
        raise _bad(path, "end record", "the end of the archive as the last 22 bytes", "something else: a cut file, a comment or trailing data")
    disk, first, here, count, size, start, comment = struct.unpack_from("<HHHHIIH", mapped, end + 4)
    stop = end
    if mapped[max(0, end - 20) : max(0, end - 20) + 4] == LOCATOR64:
        _, where, _ = struct.unpack_from("<IQI", mapped, end - 16)
        if where != end - 20 - 56 or mapped[where : where + 4] != END64:
            raise _bad(path, "zip64 end record", f"at byte {end - 76}, just before its locator", f"byte {where}")
        _, _, _, disk64, first64, here64, count64, size64, start64 = struct.unpack_from("<QHHIIQQQQ", mapped, where + 4)
        for short, long, full in ((count, count64, 0xFFFF), (size, size64, FULL32), (start, start64, FULL32), (here, here64, 0xFFFF)):
            if short not in (long, full):
                raise _bad(path, "end record", f"the same values as the zip64 record ({long})", f"{short}")
        stop, disk, first, here, count, size, start = where, disk64, first64, here64, count64, size64, start64
    if (disk, first, comment) != (0, 0, 0) or here != count:
        raise _bad(path, "end record", "one disk and no comment", f"disks {disk} and {first}, {here} of {count} members")
    if count > MAX_MEMBERS or start + size != stop:
        raise _bad(path, "central directory", f"at most {MAX_MEMBERS} members, ending at byte {stop}", f"{count}, ending at byte {start + size}")
    return start, size, count


def _entry(path: Path, mapped: mmap.mmap, at: int, stop: int) -> tuple[str, Member, int, int]:
    """Name, member, offset of its local header, and where the next entry begins."""
    if at + 46 > stop or mapped[at : at + 4] != CENTRAL:
        raise _bad(path, f"central directory at byte {at}", "a member", "something else")
    flags, method, _, _, crc, packed, size, n_name, n_extra, n_comment, disk, _, mode, local = struct.unpack_from("<HHHHIIIHHHHHII", mapped, at + 8)
    after = at + 46 + n_name + n_extra + n_comment
    if after > stop or n_name > MAX_NAME:
        raise _bad(path, f"central directory at byte {at}", f"a name of at most {MAX_NAME} bytes, inside the directory", f"{n_name} bytes")
    name = mapped[at + 46 : at + 46 + n_name].decode("latin-1")
    if not MEMBER.fullmatch(name):
        raise _bad(path, shown(name), "a member of a `torch.save` archive", "another name (TorchScript and `.pt2` are code, and not read)")
    packed, size, local = _wide(path, name, mapped[at + 46 + n_name : at + 46 + n_name + n_extra], packed, size, local)
    if method != 0 or packed != size or flags & ~KNOWN_FLAGS or disk != 0:
        raise _bad(path, shown(name), "a stored, plain member", f"method {method}, flags {flags:#x}, {packed} bytes for {size}")
    if (mode >> 16) & 0xF000 not in (0, 0x8000):  # the high half is a Unix mode: only regular files
        raise _bad(path, shown(name), "a regular file", "a link or another special file")
    begin = _local(path, mapped, name, local, flags, (crc, packed, size))
    if begin + size > at:  # also beyond the start of the directory: `_check_layout` refuses that
        raise _bad(path, shown(name), "data before the central directory", f"data up to byte {begin + size}")
    return name, Member(begin, size, crc), local, after


def _wide(path: Path, name: str, extra: bytes, packed: int, size: int, local: int) -> tuple[int, int, int]:
    """The sizes and offset, each from the zip64 field (id 1) where its 32-bit place is full."""
    short = {"size": size, "packed": packed, "local": local}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            full = [key for key, value in short.items() if value == FULL32]
            if length < 8 * len(full) or at + 4 + length > len(extra):
                raise _bad(path, shown(name), f"a zip64 field of {8 * len(full)} bytes", f"{length}")
            short |= {key: struct.unpack_from("<Q", extra, at + 4 + 8 * i)[0] for i, key in enumerate(full)}
        at += 4 + length
    return short["packed"], short["size"], short["local"]


def _local(path: Path, mapped: mmap.mmap, name: str, local: int, flags: int, central: tuple[int, int, int]) -> int:
    """Where the member's data begins. Its local header must tell the same story as the central one."""
    if local + 30 > len(mapped) or mapped[local : local + 4] != LOCAL:
        raise _bad(path, shown(name), "a local header", f"none at byte {local}")
    local_flags, method, _, _, crc, packed, size, n_name, n_extra = struct.unpack_from("<HHHHIIIHH", mapped, local + 6)
    begin: int = local + 30 + n_name + n_extra
    told = (crc, *(known if value == FULL32 else value for value, known in zip((packed, size), central[1:], strict=True)))
    if mapped[local + 30 : local + 30 + n_name] != name.encode("latin-1") or method != 0 or local_flags != flags:
        raise _bad(path, shown(name), "the same name, method and flags in both headers", "a local header that differs")
    if told != central and not (flags & (1 << 3) and told == (0, 0, 0)):
        raise _bad(path, shown(name), f"CRC and sizes {central} in both headers", f"{told}")
    return begin


def _check_layout(path: Path, mapped: mmap.mmap, spans: list[tuple[int, int]], start: int) -> None:
    """Members fill the file from byte 0 to the directory; between them stands a data descriptor at most."""
    at = 0
    for local, stop in sorted(spans):
        gap = local - at
        if gap < 0 or gap not in (0, 16, 24) or (gap and (at == 0 or mapped[at : at + 4] != b"PK\x07\x08")):
            raise _bad(path, f"byte {at}", "the next member, or a data descriptor of 16 or 24 bytes", f"a gap of {gap} bytes")
        at = stop
    if start - at not in (0, 16, 24) or (start != at and mapped[at : at + 4] != b"PK\x07\x08"):
        raise _bad(path, f"byte {at}", f"the central directory at byte {at}", f"byte {start}")


def _bad(path: Path, where: str, expected: str, found: str) -> ContractError:
    return refuse(path, where, expected=expected, found=found, remedy=REMEDY)
