"""A whole chain of contracts on disk, from the golden toy's: checkpoint, export, package and a deployment that embeds both.

Only contracts: whoever follows a lineage reads no artifact. Each may be edited before it is sealed, and what is made from it names the new digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes.artifacts import resealed

from interlock.contracts import checkpoint, deployment, export, package
from interlock.environments import ROOT
from pipeline.gates.rejected import EVIDENCE

GOLDEN = ROOT / "tests" / "interlock" / "contracts" / "golden" / "v2" / "toy"
FOLDERS = {checkpoint.FILE: "checkpoint", export.FILE: "exported", package.FILE: "package", deployment.FILE: "deployed"}
Edit = Callable[[str, dict[str, Any]], None]


def write_chain(folder: Path, edit: Edit = lambda kind, document: None) -> dict[str, dict[str, Any]]:
    """The documents by kind, as they stand in `folder/checkpoint`, `exported`, `package` and `deployed`."""
    made: dict[str, dict[str, Any]] = {}
    for file, name in FOLDERS.items():
        document = json.loads((GOLDEN / file).read_bytes())
        document["inputs"] = [{**ref, "digest": made[ref["kind"]]["digest"]} if ref["kind"] in made else ref for ref in document["inputs"]]
        if document["kind"] == "deployment":
            document |= {"export_digest": made["export"]["digest"], "package_digest": made["package"]["digest"]}
        if document["kind"] == "package":
            document["gate"]["reference_digest"] = made["checkpoint"]["digest"]
        edit(document["kind"], document)
        document = made[document["kind"]] = resealed(document)
        (folder / name).mkdir(parents=True)
        (folder / name / file).write_text(json.dumps(document), encoding="utf-8")
    for kind, file in (("export", export.FILE), ("package", package.FILE)):
        (folder / "deployed" / file).write_text(json.dumps(made[kind]), encoding="utf-8")
    return made


def write_rejected(folder: Path, packaged: dict[str, Any], findings: tuple[str, ...] = ("decode, logits: 12.0 dB, at least 50",)) -> Path:
    """A candidate that was refused for `findings`, with the evidence of a published package."""
    folder.mkdir(parents=True)
    document = {
        "findings": findings,
        "command": "interlock convert --in package --compress int4",
        "gate": packaged["gate"],
        "compression": packaged["compression"] | {"method": "int4"},
        "mixed": [],
    }
    (folder / EVIDENCE).write_text(json.dumps(document), encoding="utf-8")
    return folder
