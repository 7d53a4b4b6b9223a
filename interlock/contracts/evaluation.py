"""Evaluation contract: what was asked of which model, what came out, and whether the gates hold.

Here: the fields and the rules between them. Not here: runners, scoring, statistics (eval), thresholds (a suite's or a recipe's TOML).
The directory holds `results.jsonl`, one row per item, sorted by id, and the reports made of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from interlock.contracts.base import Contract, Frozen, Sha256

FILE = "evaluation_contract.json"
RESULTS = "results.jsonl"

Verdict = Literal["pass", "fail", "inconclusive"]


class Subject(Frozen):
    """The model that answered: a deployment or checkpoint by the digest of its contract, or an endpoint or foreign directory by name alone.

    `fingerprint` is what an endpoint said of itself (`system_fingerprint`), null where it said nothing.
    """

    kind: Literal["deployment", "checkpoint", "foreign"]
    name: str
    digest: Sha256 | None
    fingerprint: str | None = None

    @model_validator(mode="after")
    def _ours_has_a_digest(self) -> Subject:
        if (self.kind == "foreign") != (self.digest is None):
            raise ValueError("a deployment or checkpoint has a digest, a foreign model has none")
        return self


class Decoding(Frozen):
    """How tokens were chosen. `seed` is the one that reached the model, null where none did."""

    temperature: Annotated[float, Field(ge=0)]
    seed: int | None
    max_new_tokens: Annotated[int, Field(ge=1)]


class FixtureUse(Frozen):
    """Replayed tool results: of which dataset, how often one was asked for, and how often there was none (a miss is a failed item, never a call)."""

    dataset: Sha256
    source: Literal["generated", "recorded"]
    asked: Annotated[int, Field(ge=0)]
    missed: Annotated[int, Field(ge=0)]


class GateResult(Frozen):
    """One claim about an interval. It passes when the whole interval `low` … `high` is on the right side of `threshold`.

    `n` counts the eligible items (or clusters) that `measured` is of; all three numbers are null where there were none. `baseline` is the digest of
    the evaluation that a regression is measured against. `waived` is the recipe's own sentence that lets an inconclusive gate ship.
    """

    name: str
    metric: str
    claim: Literal["at least", "at most"]
    threshold: float
    measured: float | None
    low: float | None
    high: float | None
    confidence: Annotated[float, Field(gt=0, lt=1)]
    method: Literal["wilson", "exact mcnemar", "paired bootstrap", "cluster bootstrap", "count"]
    n: Annotated[int, Field(ge=0)]
    baseline: Sha256 | None = None
    verdict: Verdict
    waived: str | None = None

    @model_validator(mode="after")
    def _verdict_follows(self) -> GateResult:
        if self.measured is None or self.low is None or self.high is None or self.n == 0:
            if self.verdict != "inconclusive":
                raise ValueError("a gate without eligible items or an interval is inconclusive")
            return self
        if not self.low <= self.measured <= self.high:
            raise ValueError(f"measured {self.measured} is outside its interval {self.low} to {self.high}")
        above = self.claim == "at least"
        shown = self.low >= self.threshold if above else self.high <= self.threshold
        met = self.measured >= self.threshold if above else self.measured <= self.threshold
        if (self.verdict == "pass") != shown or (self.verdict == "fail" and met):
            raise ValueError(f"verdict {self.verdict} does not follow from {self.low} to {self.high}, {self.claim} {self.threshold}")
        if self.waived is not None and self.verdict != "inconclusive":
            raise ValueError("only an inconclusive gate can be waived")
        return self


class EvaluationContract(Contract):
    """The body. `verdict` follows from the gates: `fail` if one fails, else `inconclusive` if one is and was not waived, else `pass`.

    `backend` is null where the runner has no choice of one. `prompts` is the sha256 of the prompt wrapper that turned items into prompts.
    """

    kind: Literal["evaluation"] = "evaluation"
    schema_version: Literal[2] = 2
    suite: str
    subject: Subject
    runner: Literal["orchestrator", "hf_local", "openai_http", "coreml", "deployment"]
    backend: Literal["eager", "torchscript", "reference", "coreml"] | None
    decoding: Decoding
    prompts: Sha256
    items: Annotated[int, Field(ge=1)]
    fixtures: FixtureUse | None
    gates: tuple[GateResult, ...]
    verdict: Verdict

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> EvaluationContract:
        open_gates = [gate for gate in self.gates if gate.verdict == "inconclusive" and gate.waived is None]
        failed = any(gate.verdict == "fail" for gate in self.gates)
        follows = "fail" if failed else "inconclusive" if open_gates or not self.gates else "pass"
        if self.verdict != follows:
            raise ValueError(f"verdict must be {follows}: it follows from the gates")
        if RESULTS not in {entry.path for entry in self.files}:
            raise ValueError(f"{RESULTS} is not in files")
        asked = (self.subject.digest, self.fixtures.dataset if self.fixtures else None)
        if absent := {digest for digest in asked if digest} - {ref.digest for ref in self.inputs}:
            raise ValueError(f"{absent.pop()} was used and is not in inputs")
        return self
