"""An export directory whose contract is true of its bytes, and whose files are no models: what `deploy` copies without looking into."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fakes.artifacts import resealed
from fakes.chains import GOLDEN

from interlock.contracts import export


def write_export(folder: Path) -> Path:
    """The golden toy's export, each file a line of text."""
    folder.mkdir(parents=True)
    document = json.loads((GOLDEN / export.FILE).read_bytes())
    for entry in document["files"]:
        data = f"bytes of {entry['path']}\n".encode()
        (folder / entry["path"]).write_bytes(data)
        entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / export.FILE).write_text(json.dumps(resealed(document)), encoding="utf-8")
    return folder
