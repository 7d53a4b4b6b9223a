"""Prefill functions of lengths in between, read off from the shortest and the longest instead of converted.

Here: which plans are converted, and the substitution of T in a saved program. Not here: converting (functions.py), joining (merge.py).
Two lengths of one method are the same program but for the number of tokens. Where every number that differs between the shortest (S) and the
longest (L) is S in one and L in the other, and the weight files are equal, a length T between them is the program with T there: what the converter
decides by size (the width of an index) is decided alike at both ends. It could only decide otherwise where T is by chance another size of the
model, so that is left to it, as is everything else that does not fit. The gate runs a derived function like any other.
tests/pipeline/coreml/test_lengths.py compares the bytes with converted ones.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from typing import Any

from pipeline.coreml.functions import FunctionPlan
from pipeline.coreml.merge import WEIGHTS
from pipeline.coreml.messages import load_converter
from pipeline.coreml.normal import MANIFEST, MODEL

# Converts plans to packages of one function: {function: package} and what the converter said.
Convert = Callable[[Sequence[FunctionPlan]], tuple[dict[str, Path], tuple[str, ...]]]


def convert_plans(
    plans: Sequence[FunctionPlan], convert: Convert, into: Path, note: Callable[[str], None]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """A package for each plan, in their order, and what the converter said. Lengths in between are derived into `into` where that is sound."""
    ends, between = _split(plans)
    packages, said = convert([plan for plan in plans if plan not in between])
    if between:
        note("derive the lengths in between")
        packages |= derive([(plan.tokens, packages[plan.name]) for plan in ends], {plan.tokens: into / f"{plan.name}.mlpackage" for plan in between})
    if left := [plan for plan in plans if plan.name not in packages]:
        more, also = convert(left)
        packages, said = packages | more, (*said, *also)
    return {plan.name: packages[plan.name] for plan in plans}, said


def _split(plans: Sequence[FunctionPlan]) -> tuple[list[FunctionPlan], list[FunctionPlan]]:
    """The shortest and the longest plan of `prefill`, and the plans between them."""
    prefills = sorted((plan for plan in plans if plan.method == "prefill"), key=lambda plan: plan.tokens)
    return [*prefills[:1], *prefills[-1:]], prefills[1:-1]


def derive(ends: Sequence[tuple[int, Path]], wanted: Mapping[int, Path]) -> dict[str, Path]:
    """Write a package in normal form for each length of `wanted` that the two ends decide: {name of its folder without suffix: package}.

    ends: (T, package in normal form) of the shortest and the longest; every wanted T is between them. Weights are links to those of the shortest
    where the file system has links.
    """
    load_converter()
    from coremltools.proto import Model_pb2

    (short, first), (long, last) = ends
    if not cmp(first / WEIGHTS, last / WEIGHTS, shallow=False):
        return {}
    models = [Model_pb2.Model.FromString((package / MODEL).read_bytes()) for package in (first, last)]
    found = _Places(short, long)
    if not found.walk(*models):
        return {}
    made = {}
    for length, package in wanted.items():
        if length in found.constant:
            continue
        for place in found.tokens:
            place(length)
        (package / WEIGHTS).parent.mkdir(parents=True)
        (package / MODEL).write_bytes(models[0].SerializeToString(deterministic=True))
        shutil.copyfile(first / MANIFEST, package / MANIFEST)
        _link(first / WEIGHTS, package / WEIGHTS)
        made[package.stem] = package
    return made


@dataclass
class _Places:
    """Where two programs differ. tokens: each sets one number of the first; constant: numbers that are the same in both."""

    short: int
    long: int
    tokens: list[Callable[[int], None]] = field(default_factory=list)
    constant: set[int] = field(default_factory=set)

    def walk(self, one: Any, other: Any) -> bool:
        """Whether two messages differ in nothing but the number of tokens."""
        mine, theirs = one.ListFields(), other.ListFields()
        if [known.name for known, _ in mine] != [known.name for known, _ in theirs]:
            return False
        return all(self._field(one, known, value, twin) for (known, value), (_, twin) in zip(mine, theirs, strict=True))

    def _field(self, owner: Any, known: Any, value: Any, twin: Any) -> bool:
        if known.message_type and known.message_type.GetOptions().map_entry:
            return value.keys() == twin.keys() and all(self._entry(value[key], twin[key]) for key in value)
        if hasattr(value, "extend"):  # repeated
            return len(value) == len(twin) and all(self._item(value, at, twin[at]) for at in range(len(value)))
        if known.message_type:
            return self.walk(value, twin)
        return self._number(value, twin, lambda length: setattr(owner, known.name, length))

    def _entry(self, value: Any, twin: Any) -> bool:
        return self.walk(value, twin) if hasattr(value, "ListFields") else bool(value == twin)

    def _item(self, values: Any, at: int, twin: Any) -> bool:
        value = values[at]
        if hasattr(value, "ListFields"):
            return self.walk(value, twin)
        return self._number(value, twin, lambda length: values.__setitem__(at, length))

    def _number(self, value: Any, twin: Any, put: Callable[[int], None]) -> bool:
        if value == twin:
            if isinstance(value, int):
                self.constant.add(value)
            return True
        self.tokens.append(put)
        return (value, twin) == (self.short, self.long)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
