"""Judge `schema`: the answer is JSON that a schema allows. 1 where it is, else 0.

Here: both sides of the limited child that validates. Not here: making a model say valid JSON in the first place (constrained decoding).
In a child because both schema and answer may hold patterns and nesting without end. References leave the schema nowhere: nothing is fetched.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import model_validator

from interlock.contracts.base import Frozen
from interlock.errors import refuse
from runtime.engine import forks, sandbox
from runtime.orchestration.judges.verdict import Judge, Verdict

_LIMITS = sandbox.Limits(cpu_s=2, wall_s=10.0, memory_bytes=512 << 20, output_bytes=1 << 20)
_SHOWN = 5
_FENCED = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*?)\n?```\s*\Z", re.S)


class Schema(Frozen):
    """file: of the JSON Schema, beside the judge file; or the schema itself. Draft 2020-12, unless its `$schema` says another."""

    kind: Literal["schema"]
    file: str | None = None
    inline: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one(self) -> Schema:
        if (self.file is None) == (self.inline is None):
            raise ValueError("give `file` or `inline`")
        return self


def schema(document: Any, where: str) -> Judge:
    """document: the schema, as JSON has it; where: its file, for the message. Raises ContractError for one that is none."""
    try:
        _call({"schema": document, "text": None})
    except sandbox.ChildFailed as failed:
        raise refuse(where, "", expected="a JSON Schema", found=failed, remedy="correct the schema") from None

    def judge(_request: str, answer: str) -> Verdict:
        try:
            wrong = _call({"schema": document, "text": answer})
        except sandbox.ChildFailed as failed:
            wrong = [f"it could not be checked: {failed}"]
        told = f"It must be JSON that the schema allows: {'; '.join(wrong)}." if wrong else ""
        return Verdict(0.0 if wrong else 1.0, told, len(wrong), {"violations": wrong})

    return judge


def _call(request: dict[str, Any]) -> list[str]:
    answer = forks.call("runtime.orchestration.judges.schema:violations_in_child", request, limits=_LIMITS, ready="ready")
    assert isinstance(answer, list)
    return [str(one) for one in answer]


def ready() -> None:
    """Before any child: the validator's schemas of schemas."""
    violations_in_child({"schema": {"type": "object"}, "text": "{}"})


def violations_in_child(request: dict[str, Any]) -> list[str]:
    """The child's side: what is wrong with `text`, nothing where it is None. Raises ValueError for a schema that is none."""
    import jsonschema
    import referencing

    kind = jsonschema.validators.validator_for(request["schema"], default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(request["schema"])
    except jsonschema.SchemaError as error:
        raise ValueError(f"{error.json_path}: {error.message}") from None
    if request["text"] is None:
        return []
    fenced = _FENCED.match(request["text"])  # chat models put JSON into a block
    try:
        document = json.loads(fenced[1] if fenced else request["text"])
    except (ValueError, RecursionError) as error:
        return [f"it is no JSON ({error})"]
    validator = kind(request["schema"], registry=referencing.Registry())
    return [f"{error.json_path}: {error.message[:200]}" for error, _ in zip(validator.iter_errors(document), range(_SHOWN), strict=False)]
