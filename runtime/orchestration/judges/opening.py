"""Which judges are asked: from a judge file (TOML or JSON), or in a word.

Here: reading, and handing each to its module. Not here: any judge.

    [[judge]]
    kind = "rules"
    contains = ["Paris"]
    max_words = 40

    [[judge]]
    kind = "command"
    argv = ["python3", "check.py", "{answer}"]
    time_s = 10
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

import interlock
from interlock.contracts.base import Frozen
from interlock.contracts.strict import parse_json, validate
from interlock.environments import parse_toml
from interlock.errors import UsageError, refuse
from runtime.orchestration.judges.command import Command, command
from runtime.orchestration.judges.endpoint import Endpoint, endpoint
from runtime.orchestration.judges.model import Model, model
from runtime.orchestration.judges.rules import Rules, rules
from runtime.orchestration.judges.schema import Schema, schema
from runtime.orchestration.judges.verdict import Judge, together

One = Annotated[Rules | Schema | Command | Model | Endpoint, Field(discriminator="kind")]
_REMEDY = "docs/runtime.md has the kinds of judges and their fields"
_BYTES = 1 << 20
WORDS = ("contains", "matches", "schema", "command")


class JudgeFile(Frozen):
    """At least one judge; all of them must like an answer."""

    judge: Annotated[tuple[One, ...], Field(min_length=1, max_length=64)]


@dataclass(frozen=True)
class Asked:
    """A judge before it is opened. folder: what its paths are relative to; where: what named it."""

    judge: Rules | Schema | Command | Model | Endpoint
    folder: Path
    where: str

    def identity(self) -> dict[str, Any]:
        """What its verdicts follow from, as far as files say. Raises what opening it raises."""
        found: dict[str, Any] = self.judge.model_dump(mode="json")
        if isinstance(self.judge, Schema):
            found["document"] = _schema(self.judge, self)[0]
        if isinstance(self.judge, Model):
            found["digest"] = interlock.open(self.folder / self.judge.directory).digest
        return found


def read(words: Sequence[str]) -> list[Asked]:
    """Each of `words` is a judge file, or `contains:TEXT`, `matches:PATTERN`, `schema:FILE`, `command:WORDS`. Raises UsageError and ContractError."""
    return [asked for word in words for asked in _read(word)]


def opened(asked: Sequence[Asked]) -> Judge:
    """All of them as one. Raises UsageError, ContractError and EnvironmentRefused for what is not there or cannot be loaded."""
    return together([(one.judge.kind, _open(one)) for one in asked])


def _read(word: str) -> list[Asked]:
    form, colon, rest = word.partition(":")
    if colon and form in WORDS:
        return [Asked(_of_word(form, rest, word), Path.cwd(), word)]
    path = Path(word)
    document = _document(path)
    return [Asked(one, path.parent.absolute(), word) for one in validate(JudgeFile, document, str(path), remedy=_REMEDY).judge]


def _of_word(form: str, rest: str, word: str) -> Rules | Schema | Command:
    try:
        if form == "schema":
            return Schema(kind="schema", file=rest)
        if form == "command":
            import shlex

            return Command(kind="command", argv=tuple(shlex.split(rest)))
        return TypeAdapter(Rules).validate_python({"kind": "rules", form: (rest,)})
    except (ValidationError, ValueError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(f"--judge `{word}`: {told}", remedy=_REMEDY) from None


def _read_bytes(path: Path, remedy: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_BYTES + 1)
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read ({error.strerror})", remedy=remedy) from None


def _document(path: Path) -> dict[str, Any]:
    data = _read_bytes(path, f"name a judge file, or one of {', '.join(f'{word}:…' for word in WORDS)}")
    if path.suffix == ".json":
        return parse_json(data, str(path), limit=_BYTES, remedy=_REMEDY)
    try:
        if len(data) > _BYTES:
            raise ValueError(f"more than {_BYTES} bytes")
        # Dates are the one thing that TOML has and JSON has not; no field takes one.
        document: dict[str, Any] = json.loads(json.dumps(parse_toml(data.decode()), default=str))
    except (ValueError, RecursionError) as error:
        raise refuse(path, "", expected="TOML in UTF-8", found=error, remedy=_REMEDY) from None
    return document


def _open(asked: Asked) -> Judge:
    one = asked.judge
    if isinstance(one, Rules):
        return rules(one)
    if isinstance(one, Schema):
        return schema(*_schema(one, asked))
    if isinstance(one, Command):
        return command(one, asked.folder)
    if isinstance(one, Endpoint):
        return endpoint(one)
    from runtime.load import load

    return model(load(asked.folder / one.directory, one.backend), one.instructions, one.time_s)


def _schema(one: Schema, asked: Asked) -> tuple[dict[str, Any], str]:
    if one.file is None:
        assert one.inline is not None
        return one.inline, asked.where
    path = asked.folder / one.file
    return parse_json(_read_bytes(path, "give the path of a JSON Schema"), str(path), limit=_BYTES, remedy="correct the schema"), str(path)
