"""What a model said to one item, and what that took.

Here: the record, and its form on disk. Not here: making one (asking), judging it (scoring). Nothing in it varies from run to run: no times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from pydantic import TypeAdapter

from eval.calls import Made

Reason = Literal["eos", "stop", "halt", "length", "position_limit", "failed"]


@dataclass(frozen=True)
class Ran:
    """A program of the model that was run. how: why it ended; message: what was told beside its output, nothing where it is `done`; held: what it was
    confined by (runtime/confinement)."""

    how: str
    message: str
    held: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """text: the last thing that was said; reason: why it ended. `failed` is no answer: the model could not be asked, and `problems` says why.

    passes: positions after the prompt that the answer took, latent slots among them; problems: codes of latent mode; prompt_tokens: of all prompts
    together; turns: what was said before the text, where it took several rounds, each with its role; calls: of tools, in order; malformed: blocks of
    calls that could not be read; numbers: what was measured along the way, one number per position, of halt_probability one for each attempt;
    ran: programs, in order; fingerprint: what an endpoint said of its model; loops: attempts, of which the text is the best, and passes and
    prompt_tokens those of all; refined_until: why no other one followed.
    """

    text: str
    reason: Reason
    passes: int
    slots: int = 0
    spans: int = 0
    problems: tuple[str, ...] = ()
    prompt_tokens: int = 0
    turns: tuple[dict[str, str], ...] = ()
    calls: tuple[Made, ...] = ()
    malformed: int = 0
    numbers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    ran: tuple[Ran, ...] = ()
    fingerprint: str = ""
    loops: int = 0
    refined_until: str = ""

    def record(self) -> dict[str, Any]:
        """As it stands on disk: what is not there is left out."""
        document = asdict(self)
        return {one.name: document[one.name] for one in fields(self) if document[one.name] or one.name in ("text", "reason", "passes")}


Answers = dict[str, Answered]
"""What was said to one item, by the name of each way in which it was asked."""

_ANSWERS = TypeAdapter(Answers)


def record(found: Mapping[str, Answered]) -> dict[str, Any]:
    """All answers to one item, as JSON."""
    return {"answers": {way: said.record() for way, said in found.items()}}


def from_record(document: Mapping[str, Any]) -> Answers:
    return _ANSWERS.validate_python(document["answers"])


def failed(document: Mapping[str, Any]) -> bool:
    """Whether a record says that there was no answer."""
    return any(said["reason"] == "failed" for said in document["answers"].values())
