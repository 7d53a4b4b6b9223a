"""Blob files are those of coremltools, byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.converted_students import converted
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import ContractError
from pipeline.coreml.merge import WEIGHTS
from pipeline.coreml.weights import Blob, BlobFile, BlobWriter

BLOBS = st.builds(lambda dtype, data: Blob(dtype, 0, memoryview(data)), st.integers(1, 30), st.binary(max_size=200))


@given(blobs=st.lists(BLOBS, max_size=12))
def test_every_blob_comes_back_and_equal_ones_are_stored_once(blobs: list[Blob], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("blobs") / "weight.bin"
    with path.open("wb") as file:
        writer = BlobWriter(file)
        offsets = [writer.add(blob) for blob in blobs]
        writer.close()
    read = BlobFile(path)
    assert [read.at(offset).key() for offset in offsets] == [blob.key() for blob in blobs]
    assert len(set(offsets)) == len({blob.key() for blob in blobs})
    assert all(offset % 64 == 0 for offset in offsets)


@pytest.mark.export
def test_a_file_of_coremltools_written_again_is_the_same_file(tmp_path: Path) -> None:
    """Record by record, in file order; repeated blobs of the original are told apart by writing them one by one."""
    source = converted().packages["decode"] / WEIGHTS
    data, read, at, written = source.read_bytes(), BlobFile(source), 64, []
    while at < len(data):
        blob = read.at(at)
        written.append(blob)
        at += 64 + -(-len(blob.data) // 64) * 64
    with (tmp_path / "weight.bin").open("wb") as file:
        writer = BlobWriter(file)
        for blob in written:
            writer.add(blob)
        writer.close()
    unique = {blob.key() for blob in written}
    assert int.from_bytes(data[:4], "little") == len(written)
    if len(unique) == len(written):
        assert (tmp_path / "weight.bin").read_bytes() == data
    else:
        assert len((tmp_path / "weight.bin").read_bytes()) < len(data)


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\1\0\0\0\3\0\0\0" + bytes(56)])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weight.bin").write_bytes(content)
    with pytest.raises(ContractError, match="storage version 2"):
        BlobFile(tmp_path / "weight.bin")


@pytest.mark.parametrize("offset", [0, 32, 64, 10**9])
def test_an_offset_without_a_record_is_refused(offset: int, tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    path.write_bytes(b"\0\0\0\0\2\0\0\0" + bytes(56))
    with pytest.raises(ContractError, match="the record of a blob inside the file"):
        BlobFile(path).at(offset)
