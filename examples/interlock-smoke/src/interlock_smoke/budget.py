"""Gate `size-budget`: a package is published only if its weights fit a budget, in all or per parameter.

Here: the budget. Not here: whether the package computes what it must (interlock's own gate).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from interlock.contracts.base import Finding, Frozen
from interlock.contracts.package import PackageContract
from interlock.voice import Voice
from pipeline.driver.gate import Gate, Subject


class Params(Frozen):
    """`max_bytes` bounds all files of the package, `max_weight_bytes` the weights alone; at least one of them."""

    max_bytes: Annotated[int, Field(ge=1)] | None = None
    max_weight_bytes: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Params:
        if self.max_bytes is None and self.max_weight_bytes is None:
            raise ValueError("a budget needs max_bytes or max_weight_bytes")
        return self


def look(subject: Subject, params: Params, voice: Voice) -> list[Finding]:
    contract = subject.contract
    assert isinstance(contract, PackageContract)
    sizes = {"bytes of all files": (sum(entry.bytes for entry in contract.files), params.max_bytes)}
    sizes["bytes of weights"] = (contract.facts.weight_bytes, params.max_weight_bytes)
    return [
        Finding(text=f"{name} (at most {most})", passed=size <= most, value=size, threshold=most)
        for name, (size, most) in sizes.items()
        if most is not None
    ]


GATE = Gate("size-budget", "package", Params, look)
