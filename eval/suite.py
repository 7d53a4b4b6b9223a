"""A suite: what is asked, how, how it is scored, and what must be shown, as data.

Here: the fields of a suite and the rules between them. Not here: reading one by name or path (shipped.py), asking (asking), scorers and their metrics
(scoring), making the dataset (`interlock data make`). Imports no tensor library: a recipe's graph knows suites.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from interlock.contracts.base import Frozen
from interlock.errors import UsageError

Name = Annotated[str, Field(min_length=1, max_length=128)]
# What is asked, and then claimed, of every model that may fail by itself.
ANSWERED, UNANSWERED = "answered", "unanswered"
Asking = Literal["text", "latent", "halting", "parity", "tools", "code", "reading", "refinement"]


class Claim(Frozen):
    """What a figure's interval must show: all of it at least, or at most, a threshold. `waived`: a sentence that lets the gate ship inconclusive."""

    at_least: float | None = None
    at_most: float | None = None
    waived: Annotated[str, Field(min_length=8, max_length=400)] | None = None

    @model_validator(mode="after")
    def _claims_one_thing(self) -> Claim:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a gate claims one thing: at_least or at_most")
        return self

    @property
    def threshold(self) -> float:
        return self.at_least if self.at_least is not None else self.at_most or 0.0


class Source(Frozen):
    """The dataset that `interlock data make TASK` makes of it."""

    task: Name
    seed: int = 0
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)


class Suite(Frozen):
    """asks: how an item is put to the model; scorers: what is made of its answers; split, items: which rows are asked, at most how many.

    `dataset` is absent where the rows are those that a student was trained beside: then one has to be named. `least` is how many items a gate needs
    to be judged at all: below it, it is inconclusive whatever they show. `judges`: of `refinement`, who says that an answer will do, each as
    `interlock infer --judge` takes it. `code_mode`: gates beside the others where its tools are called by programs.
    """

    name: Name
    description: Annotated[str, Field(min_length=1, max_length=400)]
    asks: Asking
    scorers: Annotated[tuple[Name, ...], Field(min_length=1)]
    dataset: Source | None = None
    split: Name = "test"
    items: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    least: Annotated[int, Field(ge=1)] = 15
    max_new_tokens: Annotated[int, Field(ge=1, le=1 << 24)] = 256
    judges: tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...] = ()
    gates: dict[Name, Claim] = Field(default_factory=dict)
    code_mode: dict[Name, Claim] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _judges_refinement(self) -> Suite:
        if self.judges and self.asks != "refinement":
            raise ValueError(f"judges are of suites that ask by `refinement`, and this one asks by `{self.asks}`")
        return self

    @property
    def has_tools(self) -> bool:
        """Whether tools of its dataset are replayed."""
        return self.asks in ("tools", "code")

    @property
    def compares(self) -> bool:
        """Whether it asks two models."""
        return self.asks in ("parity", "reading")


def in_code_mode(suite: Suite) -> Suite:
    """A suite with tools, in which programs call them, and which asks directly beside. Raises UsageError for a suite without tools."""
    if suite.asks != "tools":
        raise UsageError(
            f"suite `{suite.name}` asks without tools: there is nothing that a program could call",
            remedy="name a suite that has them: contextual, tools",
        )
    asked = {"name": f"{suite.name}-code", "asks": "code", "scorers": (*suite.scorers, "code"), "gates": {**suite.gates, **suite.code_mode}}
    return suite.model_copy(update=asked)


def changed(suite: Suite, **values: Any) -> Suite:
    """The same suite with other values, those that are None left as they are. `gates` come beside the suite's own and over them."""
    given = {name: value for name, value in values.items() if value is not None}
    if "gates" in given:
        given["gates"] = {**suite.gates, **given["gates"]}
    return suite.model_copy(update=given)
