"""The normal form of a package, and its digest. Whole builds: test_identical_bytes.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.converted_students import converted

from pipeline.coreml.normal import MANIFEST, normalise, tree_digest


@pytest.mark.export
def test_manifest_names_items_by_their_path() -> None:
    one, other = (json.loads((converted().packages[name] / MANIFEST).read_text()) for name in ("decode", "prefill_32"))
    assert one == other
    assert one["itemInfoEntries"][one["rootModelIdentifier"]]["path"] == "com.apple.CoreML/model.mlmodel"


@pytest.mark.export
def test_no_day_and_no_local_build_in_the_metadata() -> None:
    from pipeline.coreml.facts import read_package

    metadata = read_package(converted().packages["decode"]).metadata
    assert metadata == {
        "com.github.apple.coremltools.source": "torch==2.13.0",
        "com.github.apple.coremltools.source_dialect": "TorchScript",
        "com.github.apple.coremltools.version": "9.0",
    }


@pytest.mark.export
def test_normal_form_is_a_fixed_point() -> None:
    package = converted().packages["prefill_64"]
    before = tree_digest(package)
    normalise(package)
    assert tree_digest(package) == before


@pytest.mark.parametrize("change", ["content", "name", "new"])
def test_digest_covers_names_and_bytes(change: str, tmp_path: Path) -> None:
    (tmp_path / "p" / "inner").mkdir(parents=True)
    (tmp_path / "p" / "inner" / "a").write_bytes(b"1")
    before = tree_digest(tmp_path / "p")
    if change == "content":
        (tmp_path / "p" / "inner" / "a").write_bytes(b"2")
    elif change == "name":
        (tmp_path / "p" / "inner" / "a").rename(tmp_path / "p" / "a")
    else:
        (tmp_path / "p" / "b").write_bytes(b"")
    assert tree_digest(tmp_path / "p") != before
