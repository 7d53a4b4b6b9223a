"""Judge `endpoint`: a model behind an OpenAI-compatible address, asked for a score and a word of advice.

Here: the question and reading the reply. Not here: HTTP, time and retries (interlock/posting.py).
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field

from interlock.contracts.base import Frozen
from interlock.contracts.strict import parse_json
from interlock.errors import ContractError, StageFailed
from interlock.posting import MAX_REPLY, Patience, completions, endpoint_key, excerpt, post
from runtime.orchestration.judges.verdict import Judge, Verdict

QUESTION = (
    "You judge answers. Request:\n{request}\n\nAnswer:\n{answer}\n\n{instructions} "
    'Reply with one JSON object and nothing else: {{"score": a number from 0 to 1, "feedback": "one sentence on what to improve"}}'
)
INSTRUCTIONS = "Is the answer right and complete?"
_OBJECT = re.compile(r"\{.*\}", re.S)
_TOLD = 600


class Endpoint(Frozen):
    """url: such as http://localhost:8000/v1; model: its name there; key_variable: the environment variable that holds the key, if it is set."""

    kind: Literal["endpoint"]
    url: str
    model: Annotated[str, Field(min_length=1)]
    key_variable: str = "OPENAI_API_KEY"
    instructions: str = INSTRUCTIONS
    time_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    retries: Annotated[int, Field(ge=0, le=20)] = 2


def endpoint(asked: Endpoint) -> Judge:
    """Nothing is sent yet. Raises UsageError for an address that is none, and a key that would travel in the clear. The judge raises StageFailed
    where no answer comes in time, or one without a score: that is no verdict about the answer."""
    place = completions(asked.url)
    key = endpoint_key(asked.key_variable, place)
    patience = Patience(asked.time_s, asked.retries)

    def failed(expected: str, found: object) -> StageFailed:
        return StageFailed(f"judge `{asked.model}`: expected {expected}, found {found}", remedy="see to the judge, then run the same command again")

    def judge(request: str, answer: str) -> Verdict:
        words = QUESTION.format(request=request, answer=answer, instructions=asked.instructions)
        document = {"model": asked.model, "messages": [{"role": "user", "content": words}], "temperature": 0, "max_tokens": 256}
        reply = post(place, key, document, patience, failed)
        text = _text(reply)
        verdict = _read(text) if text is not None else None
        if verdict is None:
            raise failed("a reply with a score from 0 to 1", excerpt((text or reply.decode("utf-8", "replace")).encode()))
        return verdict

    return judge


def _text(reply: bytes) -> str | None:
    try:
        document = parse_json(reply, "the reply", limit=MAX_REPLY, remedy="")
        text = document["choices"][0]["message"]["content"]
    except (ContractError, KeyError, IndexError, TypeError):
        return None
    return text if isinstance(text, str) else None


def _read(text: str) -> Verdict | None:
    """The object in a model's words, or a bare number; None where there is no score."""
    found = _OBJECT.search(text)
    try:
        said: Any = json.loads(found[0] if found else text)
        score = float(said["score"] if isinstance(said, dict) else said)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not 0 <= score <= 1:
        return None
    feedback = str(said.get("feedback", ""))[:_TOLD] if isinstance(said, dict) else ""
    return Verdict(score, feedback, int(score < 1), {"reply": text[:_TOLD]})
