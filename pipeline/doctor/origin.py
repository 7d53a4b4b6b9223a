"""Who made the artifact: interpreters and packages of its contracts, and what the converter said.

Here: the records in the contracts beside the definitions of this clone. Not here: refusing what does not fit (admission, the boundary).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from interlock.environments import Environment
from pipeline.doctor.artifact import Document
from pipeline.doctor.finding import Finding, error, info, warning
from pipeline.doctor.place import Place


def producers(place: Place) -> Iterator[Finding]:
    """The Python and the direct dependencies that each contract records, against the environment it names."""
    defined = place.environments()
    for kind, document in place.artifact.documents.items():
        record = document.at("created_by", "environment")
        name = record.get("name") if isinstance(record, dict) else None
        if isinstance(record, dict) and isinstance(name, str) and name in defined:
            yield _produced(kind, document, record, defined[name])


def _produced(kind: str, document: Document, record: dict[str, Any], env: Environment) -> Finding:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    where, python = f"{document.file} at /created_by/environment", str(record.get("python"))
    try:
        fits = SpecifierSet(env.requires_python).contains(python, prereleases=True)
    except InvalidVersion:
        fits = False
    if not fits:
        make = warning if document.at("toy") is True else error
        return make(
            f"the {kind} was made by Python {python}" + (" (a toy: the rule was lifted)" if document.at("toy") is True else ""),
            expected=f"Python {env.requires_python}, as environment `{env.name}` has it",
            remedy=f"make it again with `interlock`, which starts each stage in its own environment, or: tox -e {env.name} -- …",
            evidence=where,
        )
    if record.get("lock_digest") == env.lock_digest:
        return info(f"the {kind} was made in `{env.name}` as it is locked now, by Python {python}", where)
    told, locked = record.get("packages"), env.locked()
    others = [f"{name} {version}" for name, version in told.items() if locked.get(name.lower(), version) != version] if isinstance(told, dict) else []
    return info(f"the {kind} was made in `{env.name}` under another lock" + (f": {', '.join(others)}" if others else ""), where)


def converter_messages(place: Place) -> Iterator[Finding]:
    """What the converter said, told apart when it was said (pipeline/coreml/messages.py)."""
    document = place.artifact.documents.get("package")
    messages = document.at("messages") if document else None
    if document is None or not isinstance(messages, list):
        return
    said = [message for message in messages if isinstance(message, dict)]
    unknown = [message for message in said if message.get("harmless") is None]
    for message in unknown:
        yield warning(
            f"the converter said: {str(message.get('text'))[:300]}",
            expected="only messages whose harmlessness is known",
            remedy="see what it is about; the package was compared with the model before it was published (interlock report DIR)",
            evidence=f"{document.file} at /messages",
        )
    untested = next((str(one["text"]) for one in said if "has not been tested with coremltools" in str(one.get("text")) and one not in unknown), None)
    told = f"{len(said) - len(unknown)} messages of the converter, known to be harmless"
    yield info(f"{told}; among them: {untested}" if untested else told, f"{document.file} at /messages")
