"""The halt head on its way from the checkpoint to the runtime: where it is lost, if it is.

Here: each link of the chain, read where it is stated. Not here: whether the head computes what the student does (the gates).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from interlock.contracts.checkpoint import WEIGHTS
from interlock.errors import ContractError
from pipeline.doctor.artifact import Artifact
from pipeline.doctor.finding import Finding, error, info, warning
from pipeline.doctor.place import Place

OUTPUT = "halt_logits"


@dataclass(frozen=True)
class Link:
    """One place that says whether there is a halt head. `again` is what makes it say what the links before it do."""

    name: str
    where: str
    has: bool
    again: str


def halt_head(place: Place) -> Iterator[Finding]:
    """The first link that says otherwise than the one before it."""
    links = list(_links(place.artifact))
    for before, link in pairwise(links):
        if before.has == link.has:
            continue
        if before.has:
            found, expected = f"the halt head is lost at {link.name}", f"a halt head, as {before.name} has one"
        else:
            found, expected = f"{link.name} has a halt head, {before.name} has none", "none, or one from the checkpoint on"
        if link.name == _CONFIG and before.has:  # whoever wants it off may have switched it off
            yield warning(f"{found}: it is switched off", expected=expected, remedy=link.again, evidence=link.where)
        else:
            yield error(found, expected=expected, remedy=link.again, evidence=f"{link.where} ({before.where})")
        return
    if not links:
        yield info("nothing here says whether there is a halt head", str(place.artifact.directory))
    elif links[0].has:
        yield info(f"the halt head is there from {links[0].name} to {links[-1].name}", f"{len(links)} places say so")
    else:
        yield info("no halt head, and nothing claims one", links[0].where)
    if "HALT_HEAD" in os.environ and links:
        yield from _variable(links[-1].has)


_CONFIG = "the runtime configuration"


def _links(artifact: Artifact) -> Iterator[Link]:
    documents = artifact.documents
    again = "interlock import SOURCE --out DIR"
    if made := documents.get("checkpoint"):
        tensors = _tensors(artifact)
        if tensors is not None:
            yield Link("the checkpoint's weights", f"{made.file.parent / WEIGHTS}: halt_head.weight", "halt_head.weight" in tensors, again)
        yield from _said("the checkpoint's contract", artifact, "checkpoint", ("model_arch", "use_halt_head"), again)
    source = documents["checkpoint"].file.parent if "checkpoint" in documents else "CHECKPOINT"
    again = f"interlock export --checkpoint {shlex.quote(str(source))} --out OUT"
    yield from _said("the export's architecture", artifact, "export", ("model_arch", "use_halt_head"), again)
    yield from _said("the export's contract", artifact, "export", ("use_halt_head",), again)
    if promised := list(artifact.promised()):
        without = [f"{method} of {file}" for file, method, names in promised if OUTPUT not in names]
        where = f"{documents['export'].file} at /signatures" + (f": {', '.join(without)}" if without else "")
        yield Link("the export's signatures", where, not without, again)
    again = "interlock convert --in EXPORT --out OUT"
    yield from _said("the package's contract", artifact, "package", ("use_halt_head",), again)
    if functions := artifact.functions:
        without = [name for name, function in functions.items() if OUTPUT not in [output.name for output in function.outputs]]
        where = f"{artifact.package_folder}: outputs of {', '.join(without or functions)}"
        yield Link("the saved package", where, not without, again)
    again = "interlock deploy --export EXPORT --package PACKAGE --out-dir OUT"
    yield from _said("the manifest", artifact, "deployment", ("capabilities", "halt_head"), again)
    if artifact.config and isinstance(has := artifact.config.at("halt_head_enabled"), bool):
        yield Link(_CONFIG, f"{artifact.config.file} at /halt_head_enabled", has, f"export HALT_HEAD=1, or deploy again: {again}")


def _said(name: str, artifact: Artifact, kind: str, steps: tuple[str, ...], again: str) -> Iterator[Link]:
    document = artifact.documents.get(kind)
    if document and isinstance(has := document.at(*steps), bool):
        yield Link(name, f"{document.file} at /{'/'.join(steps)}", has, again)


def _tensors(artifact: Artifact) -> set[str] | None:
    from pipeline.sources.safetensors import check_header

    try:
        return set(check_header(artifact.documents["checkpoint"].file.parent / WEIGHTS))
    except (ContractError, OSError):
        return None


def _variable(configured: bool) -> Iterator[Finding]:
    """HALT_HEAD wins over the file: whoever does not see it wonders."""
    value = os.environ["HALT_HEAD"]
    if configured and value.lower() in ("0", "false", "no", "off", "n", "f"):
        yield warning(
            f"HALT_HEAD is `{value}`: the halt head is switched off in this shell",
            expected="1, or not set",
            remedy="unset HALT_HEAD",
            evidence="environment",
        )
    else:
        yield info(f"HALT_HEAD is `{value}`, which wins over the runtime configuration", "environment")
