"""Two functions side by side: which operation is which, and what differs about them without running any.

Here: alignment and structural differences. Not here: numbers (values.py).
Operations are paired by the name of their result where both sides have it; what is left is paired in order by what the operations are (type, result,
constants), so that a package whose values have other names, or that lacks or adds an operation, is aligned as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from runtime.mil.compare.report import Difference
from runtime.mil.program import Constant, Function, Operation, TensorType

_LARGE = 4096
_Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Side:
    """One function: its operations without constants, and what its constants are by name (a `const`, or the `constexpr` that makes one)."""

    function: Function
    operations: tuple[Operation, ...]
    constants: dict[str, Operation]

    @staticmethod
    def of(function: Function) -> Side:
        every = list(function.operations())
        constants = {item.outputs[0].name: item for item in every if item.type == "const" or item.type.startswith("constexpr_")}
        return Side(function, tuple(item for item in every if not (item.outputs and item.outputs[0].name in constants)), constants)

    def key(self, binding: str | Constant) -> tuple[object, ...] | None:
        """What a constant is, None for a value of the run. Equal for equal content, wherever it is stored."""
        if isinstance(binding, Constant):
            return (str(binding.type), _content(binding))
        made = self.constants.get(binding)
        if made is None:
            return None
        if made.type == "const":
            return self.key(made.attributes["val"])
        parts = {**{name: (value,) for name, value in made.attributes.items() if name != "name"}, **made.inputs}
        return (made.type, *((name, *(self.key(item) for item in parts[name])) for name in sorted(parts)))

    def array(self, binding: str | Constant) -> _Numbers | None:
        """The numbers of a weight: a floating constant of several elements that is stored as it is, as fp32."""
        if isinstance(binding, str):
            made = self.constants.get(binding)
            return self.array(made.attributes["val"]) if made is not None and made.type == "const" else None
        if not isinstance(binding.type, TensorType) or not binding.type.dtype.is_float:
            return None
        values = binding.array()
        return values.astype(np.float32) if values.size > 1 else None


@dataclass(frozen=True)
class Alignment:
    """pairs: (position in the first, position in the second); names: of the second's values by the first's; alone: positions without a partner."""

    pairs: tuple[tuple[int, int], ...]
    names: dict[str, str]
    added: tuple[int, ...]
    missing: tuple[int, ...]


def align(one: Side, other: Side) -> Alignment:
    """Pair the operations of two functions."""
    paired = dict(_by_name(one, other))
    if len(paired) < min(len(one.operations), len(other.operations)) / 2:
        paired = {}
    taken = set(paired.values())
    left = [at for at in range(len(one.operations)) if at not in paired]
    right = [at for at in range(len(other.operations)) if at not in taken]
    for tokens in (_exact, _loose):
        matcher = SequenceMatcher(None, [tokens(one, at) for at in left], [tokens(other, at) for at in right], autojunk=False)
        for block in matcher.get_matching_blocks():
            paired.update({left[block.a + step]: right[block.b + step] for step in range(block.size)})
        taken = set(paired.values())
        left, right = [at for at in left if at not in paired], [at for at in right if at not in taken]
    names = {value.name: value.name for value in (*one.function.inputs, *one.function.states)}
    for first, second in paired.items():
        outputs = zip(one.operations[first].outputs, other.operations[second].outputs, strict=False)
        names.update({mine.name: theirs.name for mine, theirs in outputs})
    return Alignment(tuple(sorted(paired.items())), names, tuple(left), tuple(right))


def differences(one: Side, other: Side, found: Alignment) -> Iterator[Difference]:
    """What differs, in the order of the first; operations that only the second has stand where they are missed."""
    after = {second: first for first, second in found.pairs}
    missing: dict[int, list[Operation]] = {}
    for at in found.missing:
        before = max((after[second] for second in after if second < at), default=-1)
        missing.setdefault(before + 1, []).append(other.operations[at])
    partner = dict(found.pairs)
    for at, operation in enumerate(one.operations):
        yield from (_missing(one, item, found) for item in missing.get(at, ()))
        if at not in partner:
            yield _difference(one, operation, "added", f"`{operation.type}`", "no such operation")
        else:
            yield from _pair(one, other, operation, other.operations[partner[at]], found.names)
    yield from (_missing(one, item, found) for item in missing.get(len(one.operations), ()))
    wanted = tuple(other.function.block.outputs)
    returned = tuple(found.names.get(name, name) for name in one.function.block.outputs)
    if returned != wanted:
        for mine, theirs in zip(one.function.block.outputs, wanted, strict=False):
            if found.names.get(mine, mine) != theirs:
                yield Difference(one.function.name, mine, "outputs", "outputs", f"`{mine}`", f"`{theirs}`")


def _missing(one: Side, operation: Operation, found: Alignment) -> Difference:
    """A missing operation has no name in the package: it is called as in the reference."""
    names = ", ".join(str(item) for bindings in operation.inputs.values() for item in bindings if isinstance(item, str))
    return Difference(one.function.name, called(operation), operation.type, "missing", "no such operation", f"`{operation.type}` of {names}"[:200])


def _pair(one: Side, other: Side, mine: Operation, theirs: Operation, names: dict[str, str]) -> Iterator[Difference]:
    if mine.type != theirs.type:
        yield _difference(one, mine, "operation", f"`{mine.type}`", f"`{theirs.type}`")
    for here, there in zip(mine.outputs, theirs.outputs, strict=False):
        if here.type != there.type:
            yield _difference(one, mine, "type", str(here.type), str(there.type))
    for name in sorted({*mine.inputs, *theirs.inputs}):
        given, wanted = mine.inputs.get(name, ()), theirs.inputs.get(name, ())
        if len(given) != len(wanted):
            yield _difference(one, mine, "wiring", f"`{name}` of {len(given)} values", f"{len(wanted)} values")
            continue
        for binding, expected in zip(given, wanted, strict=True):
            yield from _binding(one, other, mine, name, binding, expected, names)


def _binding(
    one: Side, other: Side, operation: Operation, name: str, given: str | Constant, wanted: str | Constant, names: dict[str, str]
) -> Iterator[Difference]:
    mine, theirs = one.key(given), other.key(wanted)
    if mine is None and theirs is None:
        if names.get(str(given)) != wanted:
            yield _difference(one, operation, "wiring", f"`{name}` = `{given}`", f"`{name}` = `{wanted}`")
    elif mine != theirs:
        if damage := _damage(one.array(given), other.array(wanted)):
            yield _difference(one, operation, "weight", f"`{name}` differs in {damage[0]}", damage[1])
            return
        kind = "storage" if mine and theirs and mine[0] != theirs[0] and (_compressed(mine) or _compressed(theirs)) else "constant"
        yield _difference(one, operation, kind, f"`{name}` = {_shown(one, given)}", _shown(other, wanted))


def _damage(mine: _Numbers | None, theirs: _Numbers | None) -> tuple[str, str] | None:
    """What is found and expected of two stored weights that differ by more than two roundings to fp16 (2^-11 of an element each)."""
    if mine is None or theirs is None or mine.shape != theirs.shape:
        return None
    with np.errstate(invalid="ignore"):
        difference = np.abs(mine - theirs)
        wrong = (mine != theirs) & ~(difference <= 2.0**-10 * np.abs(theirs) + 2.0**-24)
    if not wrong.any():
        return None
    at = int(np.argmax(np.where(wrong, difference, 0)))
    shown, expected = float(mine.flat[at]), float(theirs.flat[at])
    return f"{int(wrong.sum())} of {wrong.size} elements, e.g. {shown:.6g}", f"{expected:.6g} at flat index {at}"


def _compressed(key: tuple[object, ...]) -> bool:
    return str(key[0]).startswith("constexpr_")


def _difference(one: Side, operation: Operation, kind: str, found: str, expected: str) -> Difference:
    return Difference(one.function.name, called(operation), operation.type, kind, found[:200], expected[:200])  # type: ignore[arg-type]


def _shown(side: Side, binding: str | Constant) -> str:
    if isinstance(binding, str):
        made = side.constants.get(binding)
        if made is None:
            return f"`{binding}`"
        return f"`{binding}` ({made.type})" if made.type != "const" else _shown(side, made.attributes["val"])
    if isinstance(binding.content, tuple):
        return str(tuple(str(item) for item in binding.content))
    values = binding.array()
    return str(values.tolist()) if values.size <= 8 else f"{binding.type}, digest {sha256(binding.content).hexdigest()[:12]}"


def _content(constant: Constant) -> object:
    if isinstance(constant.content, memoryview):
        return bytes(constant.content) if len(constant.content) <= _LARGE else sha256(constant.content).digest()
    return tuple(_content(item) if isinstance(item, Constant) else item for item in constant.content)


def _by_name(one: Side, other: Side) -> Iterator[tuple[int, int]]:
    places = {_identity(operation): at for at, operation in enumerate(other.operations)}
    for at, operation in enumerate(one.operations):
        if _identity(operation) in places:
            yield at, places[_identity(operation)]


def _identity(operation: Operation) -> tuple[str, ...]:
    """A result's name; what has no result is known by what it takes."""
    if operation.outputs:
        return (operation.outputs[0].name,)
    return (operation.type, *(str(item) for bindings in operation.inputs.values() for item in bindings if isinstance(item, str)))


def _exact(side: Side, at: int) -> tuple[object, ...]:
    operation = side.operations[at]
    constants = [(name, key) for name, bindings in sorted(operation.inputs.items()) for item in bindings if (key := side.key(item)) is not None]
    return (*_loose(side, at), tuple(constants))


def _loose(side: Side, at: int) -> tuple[object, ...]:
    operation = side.operations[at]
    return (operation.type, tuple(str(output.type) for output in operation.outputs))


def called(operation: Operation) -> str:
    """The name of its result; of an operation without one, of what it writes."""
    return operation.name if operation.outputs or "data" not in operation.inputs else str(operation.inputs["data"][0])
