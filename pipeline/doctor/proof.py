"""The directory as a whole: what it is, and whether it is what its contracts say.

Here: `verify` called, its violations as findings; things that only look like a package. Not here: any proof of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from interlock.contracts import io
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.doctor.finding import Finding, error, info, optional
from pipeline.doctor.place import Place
from pipeline.verify import verify

SHOWN = 20
# What upstream converters leave where a conversion failed.
PLACEHOLDERS = (".placeholder", "CONVERSION_NOTE.txt")


def contract(place: Place) -> Iterator[Finding]:
    """Every file, every field: what `interlock verify` proves."""
    assert place.directory
    try:
        proven = verify(place.directory, SilentVoice(), place.store.find)
    except ContractError as problem:
        for wrong in problem.violations[:SHOWN]:
            where = f"{wrong.file} at {wrong.where}" if wrong.where else wrong.file
            yield error(f"{wrong.found}", expected=wrong.expected, remedy=problem.remedy, evidence=where)
        if len(problem.violations) > SHOWN:
            yield error(
                f"{len(problem.violations) - SHOWN} more violations",
                expected="none",
                remedy=f"interlock verify {shlex.quote(str(place.directory))}",
                evidence=str(place.directory),
            )
        return
    toy = "; toy: not for production" if proven.contract.toy else ""
    yield info(f"{proven.contract.kind} {proven.contract.digest[:16]}: every file is what its contract says{toy}", str(place.directory))
    missing = [ref for ref in proven.missing if ref.kind != "source"]
    if missing:
        yield info(f"not reached: {', '.join(f'{ref.kind} {ref.digest[:16]}' for ref in missing)}", f"neither in {place.directory} nor in the store")


def placeholder(place: Place) -> Iterator[Finding]:
    """A folder with the name of a package that no converter wrote."""
    artifact = place.artifact
    folder = artifact.package_folder
    if folder is None:
        return
    from runtime.mil.reader import MODEL

    notes = [path for base in (artifact.directory, folder) for name in PLACEHOLDERS for path in [base / name] if path.exists()]
    model = folder / MODEL
    empty = not model.is_file() or not model.stat().st_size
    if notes or empty:
        yield error(
            f"{folder.name} is a placeholder" if notes else f"{folder.name} has no model in it",
            expected="a package that the converter finished: a model file, and its weights",
            remedy=f"convert again and read what it says: {io.MADE_BY['package']} --in EXPORT --out OUT",
            evidence=str(notes[0] if notes else model),
        )
    else:
        yield info(f"{folder.name} holds a model of {model.stat().st_size} bytes", str(model))


def device_rules(place: Place) -> Iterator[Finding]:
    """How many rules of `interlock mil lint` the package breaks: they are about devices, and do not fail anything here."""
    folder = place.artifact.package_folder
    if folder is None or not place.artifact.functions:
        return
    from runtime.mil import open_package
    from runtime.mil.lint import lint

    broken = sorted({(found.rule, found.severity) for found in lint(open_package(folder), "any")})
    counts = ", ".join(f"{number} {level}" for level in ("fatal", "silent", "perf", "note") if (number := sum(one[1] == level for one in broken)))
    if broken:
        told = f"{len(broken)} rules of devices broken: {counts}"
        remedy = f"interlock mil lint {shlex.quote(str(folder))} --target ane"
        yield optional(told, expected="to be known before it runs on a device", remedy=remedy, evidence=str(folder))
    else:
        yield info("no rule of devices is broken", str(folder))
