"""Dataset contract: rows to train on or to evaluate with, where they come from, and what a teacher added to them.

Here: the fields and the rules between them. Not here: generators, importing, teaching (stages that make datasets), the format of a row.
The directory holds the files of its splits, one JSON object per line, and what `tools` and `teaching` name beside them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from interlock.contracts.base import Contract, Frozen, RelativePath, Sha256

FILE = "dataset_contract.json"

Files = Annotated[tuple[RelativePath, ...], Field(min_length=1)]
Rows = Annotated[int, Field(ge=1)]


class Generator(Frozen):
    """The seeded program that made the rows. The same name, seed and parameters give the same bytes."""

    name: str
    seed: int
    parameters: dict[str, bool | int | float | str]


class Origin(Frozen):
    """The foreign file or directory that the rows were imported from. `sha256` is that of the file, or of the list of a directory's digests."""

    form: Literal["jsonl", "huggingface"]
    name: str
    sha256: Sha256


class Split(Frozen):
    """One part of the set: its files, in order, and how many rows they hold together."""

    files: Files
    rows: Rows


class Tools(Frozen):
    """The tools that rows may call: their JSON Schemas, and replayed results keyed by canonical arguments. `source` says how results came about."""

    registry: RelativePath
    fixtures: Files
    source: Literal["generated", "recorded"]


class Teaching(Frozen):
    """What a teacher added, and the settings of the capture. A student is trained on it only with the same tokenizer.

    `teacher` is the digest of a checkpoint contract or of a local model's files, null for an endpoint. `temperature` and `seed` are those that were
    sent, `seed` null where the teacher takes none. `top_k` log-probabilities per token were kept, 0 for answers alone; `tail` says how the rest of
    the distribution stands in them, and `vocab_size` how many ids the teacher's tokenizer has. `files` hold the log-probabilities, indexed by the ids
    of the rows. `system_fingerprints` are those that an endpoint answered with: more than one, and it changed meanwhile. Documents of earlier
    interlocks have neither `vocab_size` nor fingerprints.
    """

    teacher: Sha256 | None
    name: str
    temperature: Annotated[float, Field(ge=0)]
    seed: int | None
    max_new_tokens: Annotated[int, Field(ge=1)]
    top_k: Annotated[int, Field(ge=0)]
    tail: Literal["bucket", "zero", "symmetric_uniform"] | None
    files: tuple[RelativePath, ...] = ()
    vocab_size: Annotated[int, Field(ge=1)] | None = None
    system_fingerprints: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _logits_are_whole(self) -> Teaching:
        captured = self.top_k > 0
        if not captured == (self.tail is not None) == bool(self.files) or (self.vocab_size is not None and not captured):
            raise ValueError("top_k, tail, files and vocab_size are there together: log-probabilities were captured, or were not")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        return {name: value for name, value in document.items() if value or name not in ("vocab_size", "system_fingerprints")}


class DatasetContract(Contract):
    """The body. Exactly one of `generator` and `origin` is there. `tokenizer` is the sha256 of the `tokenizer.json` that token ids in the files
    belong to, null where there is only text."""

    kind: Literal["dataset"] = "dataset"
    schema_version: Literal[2] = 2
    task: str
    generator: Generator | None
    origin: Origin | None
    splits: Annotated[dict[str, Split], Field(min_length=1)]
    tokenizer: Sha256 | None
    tools: Tools | None = None
    teaching: Teaching | None = None
    licence: str

    @model_validator(mode="after")
    def _files_are_there(self) -> DatasetContract:
        if (self.generator is None) == (self.origin is None):
            raise ValueError("rows are generated or imported: one of generator and origin")
        if self.teaching and self.teaching.top_k and self.tokenizer is None:
            raise ValueError("log-probabilities need the digest of the tokenizer whose ids they are of")
        named = [file for split in self.splits.values() for file in split.files]
        named += [self.tools.registry, *self.tools.fixtures] if self.tools else []
        named += self.teaching.files if self.teaching else ()
        listed = {entry.path for entry in self.files}
        if absent := sorted(set(named) - listed):
            raise ValueError(f"{absent[0]} is named and not in files")
        if len(set(named)) < len(named):
            raise ValueError(f"{next(file for file in named if named.count(file) > 1)} is named twice: splits share no file")
        return self
