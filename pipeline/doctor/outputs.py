"""The outputs by their names, in what is promised and in what was saved.

Here: `logits`, `halt_logits`, `hidden` in the export's signatures and in the package's own description. Not here: their values (the gates).
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.doctor.artifact import Artifact
from pipeline.doctor.finding import Finding, error, info
from pipeline.doctor.place import Place

KNOWN = ("logits", "halt_logits", "hidden")


def outputs(place: Place) -> Iterator[Finding]:
    artifact = place.artifact
    export = artifact.documents.get("export")
    halts = export.at("use_halt_head") is True if export else None
    promised = {f"{method} of {file}": names for file, method, names in artifact.promised()}
    if promised and export:
        yield from _judged("the export's contract promises", promised, halts, f"{export.file} at /signatures", "interlock export")
    if artifact.package_folder is None:
        return
    saved = {name: [output.name for output in function.outputs] for name, function in artifact.functions.items()}
    if not saved:
        yield error(
            "the saved package has no outputs that can be read",
            expected="an ML Program whose functions return " + ", ".join(_wanted(halts)),
            remedy="interlock convert --in EXPORT --out OUT",
            evidence=str(artifact.package_folder),
        )
        return
    yield from _judged("the saved package returns", saved, _halts(artifact, halts), str(artifact.package_folder), "interlock convert")


def _halts(artifact: Artifact, exported: bool | None) -> bool | None:
    """Whether the package has to halt: by its export, or where that is not at hand by its own contract."""
    packaged = artifact.documents.get("package")
    return packaged.at("use_halt_head") is True if exported is None and packaged else exported


def _wanted(halts: bool | None) -> list[str]:
    return ["logits", *(["halt_logits"] if halts else [])]


def _judged(what: str, returned: dict[str, list[str]], halts: bool | None, evidence: str, again: str) -> Iterator[Finding]:
    wrong = {name: names for name, names in returned.items() if set(_wanted(halts)) - set(names) or set(names) - set(KNOWN)}
    for name, names in wrong.items():
        yield error(
            f"{what} {', '.join(names) or 'nothing'} ({name})",
            expected=f"{' and '.join(_wanted(halts))}, by these names; besides them at most hidden",
            remedy=f"make it again: {again}",
            evidence=evidence,
        )
    if not wrong:
        yield info(f"{what} {', '.join(_wanted(halts))} in each of {len(returned)} functions", evidence)
