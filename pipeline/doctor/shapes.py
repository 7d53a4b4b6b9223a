"""The lengths: which were validated, which were rejected and why, and that the primary one is there to the end.

Here: the export's record of its shapes, the lengths that the saved package takes. Not here: validating (pipeline/export/shapes.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.doctor.artifact import Artifact, Document, reached
from pipeline.doctor.finding import Finding, error, info, warning
from pipeline.doctor.place import Place

AGAIN = "interlock export --checkpoint CHECKPOINT --out OUT"


def shapes(place: Place) -> Iterator[Finding]:
    artifact = place.artifact
    document = artifact.documents.get("export")
    results = document.at("shape_validation", "results") if document else None
    if document is None or not isinstance(results, dict):
        return
    where = f"{document.file} at /shape_validation"
    primary = document.at("shape_validation", "primary_shape")
    passed = [length for length, result in results.items() if reached(result, "status") == "ok"]
    for length, result in results.items():
        if length in passed:
            continue
        reason = str(reached(result, "error") or "no reason is given")
        if length == str(primary):
            expected = "the primary length validated: without it nothing is published"
            yield error(f"the primary length {length} was not validated: {reason}", expected=expected, remedy=AGAIN, evidence=where)
        else:
            expected, remedy = "validated, or not needed", f"none, if it is not needed; otherwise look into the reason, then {AGAIN}"
            yield warning(f"length {length} was rejected: {reason}", expected=expected, remedy=remedy, evidence=where)
    if str(primary) not in results:
        yield error(f"the primary length {primary} was not tried", expected=f"one of {', '.join(results)}", remedy=AGAIN, evidence=where)
    if passed:
        yield info(f"lengths {', '.join(passed)} validated, {primary} is the primary one", where)
    yield from _declared(document, passed, primary)
    yield from _packaged(artifact, passed, primary)


def _declared(document: Document, passed: list[str], primary: object) -> Iterator[Finding]:
    declared = document.at("enumerated_T")
    names = [str(length) for length in declared] if isinstance(declared, list) else []
    if sorted(names) != sorted(passed) or str(primary) not in names:
        expected = f"exactly those that were validated: {', '.join(passed)}, {primary} among them"
        told = f"the export declares lengths {', '.join(names) or 'none'}"
        yield error(told, expected=expected, remedy=AGAIN, evidence=f"{document.file} at /enumerated_T")


def _packaged(artifact: Artifact, passed: list[str], primary: object) -> Iterator[Finding]:
    """The lengths of the saved package: a function each, or one function that takes several."""
    if not artifact.functions:
        return
    named = {match[1] for name in artifact.functions if (match := re.fullmatch(r"prefill_(\d+)", name))}
    taken = [feature for function in artifact.functions.values() for feature in function.inputs if feature.name == "input_ids"]
    flexible = {str(shape[-1]) for feature in taken for shape in (feature.enumerated or (feature.shape,)) if shape}
    lengths = named or flexible
    absent = [length for length in passed if length not in lengths]
    again = "interlock convert --in EXPORT --out OUT"
    if str(primary) not in lengths:
        found = f"the saved package does not take the primary length {primary}"
        yield error(found, expected=f"{primary} among {', '.join(sorted(lengths, key=int))}", remedy=again, evidence=str(artifact.package_folder))
    elif absent:
        found = f"the saved package does not take {', '.join(absent)}"
        yield warning(found, expected="every length that was validated", remedy=again, evidence=str(artifact.package_folder))
    else:
        yield info(f"the saved package takes {', '.join(sorted(lengths, key=int))}", str(artifact.package_folder))
