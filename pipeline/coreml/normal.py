"""The same package bytes for the same model: on every machine, in every process, on every day.

Here: rewriting a saved package in place, and its digest. Not here: reading what it contains (facts.py).
coremltools' weights are reproducible as they are. Three things are not: protobuf serialises maps in the order of a per-process hash, the
manifest's identifiers are random, and the metadata holds today's date and the local build of torch.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

from pipeline.coreml.messages import load_converter

MODEL = "Data/com.apple.CoreML/model.mlmodel"
MANIFEST = "Manifest.json"
_DATE = "com.github.apple.coremltools.conversion_date"
_SOURCE = "com.github.apple.coremltools.source"


def normalise(package: Path) -> None:
    """Rewrite model and manifest in place. Doing it twice changes nothing."""
    load_converter()
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((package / MODEL).read_bytes())
    metadata = model.description.metadata.userDefined
    metadata.pop(_DATE, None)
    if _SOURCE in metadata:
        # `torch==2.13.0+cpu`: the build of one version that a platform happens to have
        metadata[_SOURCE] = metadata[_SOURCE].partition("+")[0]
    (package / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    manifest = json.loads((package / MANIFEST).read_text(encoding="utf-8"))
    (package / MANIFEST).write_text(json.dumps(_named_by_path(manifest), indent=4, sort_keys=True) + "\n", encoding="utf-8")


def tree_digest(package: Path) -> str:
    """sha256 over `relative path \\0 sha256 of the bytes` of every file, sorted by path."""
    whole = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.sha256()
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
        whole.update(path.relative_to(package).as_posix().encode() + b"\0" + digest.digest())
    return whole.hexdigest()


def _named_by_path(manifest: dict[str, Any]) -> dict[str, Any]:
    """Identifiers of items are any unique strings: here a UUID of the item's path."""
    items = manifest["itemInfoEntries"]
    names = {old: str(uuid.uuid5(uuid.NAMESPACE_URL, f"mlpackage:{item['path']}")) for old, item in items.items()}
    renamed = {names[old]: item for old, item in items.items()}
    return {**manifest, "itemInfoEntries": renamed, "rootModelIdentifier": names[manifest["rootModelIdentifier"]]}
