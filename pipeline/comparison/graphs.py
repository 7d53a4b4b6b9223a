"""Two graphs: operations counted, structure compared, constants handed to the numeric comparison.

Here: ML Programs by `runtime.mil`, which needs no converter, and the methods of TorchScript files. Not here: numbers (tensors.py).
Operations of two ML Programs are paired by `runtime.mil.compare.align`: by the name of their result, else by what they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from interlock.contracts.export import LATENT
from pipeline.comparison.constants import constants_of, numbers_of, text_of
from pipeline.comparison.records import Count, Found, Structure, Tensor
from pipeline.comparison.tensors import Note, compare_tensor
from runtime.mil.compare.align import Side, align, called
from runtime.mil.program import Binding, Constant, Function, Operation, Program, StateType
from runtime.mil.weights import Fixed, release

# Of a text that stands in a constant.
LONGEST = 200


def compare_programs(part: str, a: Program, b: Program, bound: float, note: Note) -> Found:
    """Two packages: functions, interfaces, operations, wiring, and every constant, each pair once however many functions share it."""
    found = Found()
    seen: set[tuple[object, ...]] = set()
    for name in sorted({*a.functions, *b.functions}):
        one, other = a.functions.get(name), b.functions.get(name)
        if one is None or other is None:
            missing = Structure(part=part, function=name, place="function", a="present" if one else "none", b="present" if other else "none")
            found += Found(structure=(missing,))
            continue
        found += Found(counts=tuple(_counts(part, one, other)), structure=tuple(_interface(part, one, other)))
        found += _aligned(part, one, other, bound, note, seen)
    return found


def compare_methods(part: str, a: Any, b: Any) -> Found:
    """Two TorchScript modules: operations of each method, nested blocks included."""
    counts = []
    for name in sorted({*_methods(a), *_methods(b)}):
        one, other = _methods(a).get(name, Counter()), _methods(b).get(name, Counter())
        counts += [
            Count(part=part, function=name, operation=kind, a=one[kind], b=other[kind], storage=False)
            for kind in sorted({*one, *other})
            if one[kind] != other[kind]
        ]
    return Found(counts=tuple(counts))


def _methods(module: Any) -> dict[str, Counter[str]]:
    names = [name for name in ("forward", "prefill", LATENT) if hasattr(module, name)]
    return {name: Counter(_kinds(getattr(module, name).inlined_graph)) for name in names}


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)


def _counts(part: str, a: Function, b: Function) -> Iterator[Count]:
    one, other = (Counter(operation.type for operation in function.operations()) for function in (a, b))
    for kind in sorted({*one, *other}):
        if one[kind] != other[kind]:
            yield Count(part=part, function=a.name, operation=kind, a=one[kind], b=other[kind], storage=_holds_constants(kind))


def _holds_constants(kind: str) -> bool:
    return kind == "const" or kind.startswith("constexpr_")


def _interface(part: str, a: Function, b: Function) -> Iterator[Structure]:
    def types(function: Function) -> dict[str, str]:
        kinds = {value.name: value.type for operation in function.block.operations for value in operation.outputs}
        kinds |= {value.name: value.type for value in function.inputs}
        told = {f"input `{value.name}`": _told(value.type, function, value.name) for value in function.inputs}
        told |= {f"state `{value.name}`": _told(value.type, function, value.name) for value in function.states}
        return told | {f"output `{name}`": str(kinds.get(name)) for name in function.block.outputs}

    one, other = types(a), types(b)
    for place in dict.fromkeys((*one, *other)):
        if one.get(place) != other.get(place):
            yield Structure(part=part, function=a.name, place=place, a=one.get(place, "none"), b=other.get(place, "none"))


def _told(kind: object, function: Function, name: str) -> str:
    wrapped = kind.wrapped if isinstance(kind, StateType) else kind
    enumerated = function.features[name].enumerated if name in function.features else ()
    return f"{wrapped}" + (f" one of {[list(shape) for shape in enumerated]}" if enumerated else "")


def _aligned(part: str, a: Function, b: Function, bound: float, note: Note, seen: set[tuple[object, ...]]) -> Found:
    """What the pairs of operations take: values of the run by name, constants by their numbers."""
    one, other = Side.of(a), Side.of(b)
    found = align(one, other)
    walk = _Walk(part, a.name, bound, note, seen, constants_of(a), constants_of(b), found.names)
    for at in found.added:
        walk.differs("operation", _shown(one.operations[at]), "none")
    for at in found.missing:
        walk.differs("operation", "none", _shown(other.operations[at]))
    for first, second in found.pairs:
        walk.pair(one.operations[first], other.operations[second])
    return Found(structure=tuple(walk.structure), tensors=tuple(walk.tensors), compared=walk.compared)


@dataclass
class _Walk:
    """Through the pairs of two functions. seen: constants that were compared already; names: of the second's values by the first's."""

    part: str
    function: str
    bound: float
    note: Note
    seen: set[tuple[object, ...]]
    a: Mapping[str, Fixed]
    b: Mapping[str, Fixed]
    names: Mapping[str, str]
    structure: list[Structure] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    compared: int = 0

    def differs(self, place: str, a: str, b: str) -> None:
        self.structure.append(Structure(part=self.part, function=self.function, place=place, a=a, b=b))

    def pair(self, mine: Operation, theirs: Operation) -> None:
        if mine.type != theirs.type:
            self.differs(f"`{called(mine)}`", mine.type, theirs.type)
        for here, there in zip(mine.outputs, theirs.outputs, strict=False):
            if here.type != there.type:
                self.differs(_shown(mine), str(here.type), str(there.type))
        for parameter in sorted({*mine.inputs, *theirs.inputs}):
            place = f"{_shown(mine)}, {parameter}"
            given, wanted = mine.inputs.get(parameter, ()), theirs.inputs.get(parameter, ())
            if len(given) != len(wanted):
                self.differs(place, f"{len(given)} values", f"{len(wanted)} values")
                continue
            for x, y in zip(given, wanted, strict=True):
                self._binding(place, x, y)

    def _binding(self, place: str, x: Binding, y: Binding) -> None:
        held = x if isinstance(x, Constant) else self.a.get(x)
        kept = y if isinstance(y, Constant) else self.b.get(y)
        if held is None and kept is None:
            if self.names.get(str(x)) != y:
                self.differs(place, f"`{x}`", f"`{y}`")
        elif held is None or kept is None:
            self.differs(place, "a constant" if held else "a value of the run", "a constant" if kept else "a value of the run")
        elif (key := (held.key(), kept.key())) not in self.seen:
            self.seen.add(key)
            self._constant(x if isinstance(x, str) else place, held, kept)

    def _constant(self, name: str, held: Fixed, kept: Fixed) -> None:
        self.note(f"{self.function}: {name}")
        one, other = numbers_of(held, name), numbers_of(kept, name)
        if one is None or other is None:
            if text_of(held) != text_of(kept):
                self.differs(f"`{name}`", text_of(held)[:LONGEST], text_of(kept)[:LONGEST])
            return
        self.compared += 1
        if found := compare_tensor(self.part, name, one, other, self.bound):
            self.tensors.append(found)
        for value in (held, kept):
            release(value)


def _shown(operation: Operation) -> str:
    return f"{operation.type} `{called(operation)}`"
