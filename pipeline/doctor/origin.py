"""Who made the artifact: interpreters and packages of its contracts, and what the converter said.

Here: the records in the contracts beside the definitions of this clone. Not here: refusing what does not fit (admission, the boundary).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import ValidationError

from interlock.contracts.base import CreatedBy
from interlock.contracts.io import MADE_BY
from interlock.producers import unfit
from pipeline.doctor.finding import Finding, error, info, warning
from pipeline.doctor.place import Place


def producers(place: Place) -> Iterator[Finding]:
    """The maker that each contract records, by the rule of the boundary (interlock/producers.py)."""
    defined = place.environments()
    for kind, document in place.artifact.documents.items():
        try:
            made = CreatedBy.model_validate_json(json.dumps(document.at("created_by")))
        except ValidationError:
            continue  # proof.py says so
        where, toy = f"{document.file} at /created_by/environment", document.at("toy") is True
        wrong = list(unfit(made.stage, made.environment))
        for required, found in wrong:
            yield (warning if toy else error)(
                f"the {kind} was made by {found}" + (" (a toy: the rule was lifted)" if toy else ""),
                expected=required,
                remedy=f"make it again in its environment: {MADE_BY[kind]}",
                evidence=where,
            )
        if not wrong:
            env = defined[made.environment.name]
            lock = "as it is locked now" if made.environment.lock_digest == env.lock_digest else "under another lock"
            yield info(f"the {kind} was made in `{env.name}` {lock}, by Python {made.environment.python}", where)


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
