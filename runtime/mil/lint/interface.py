"""Rules about inputs, outputs, states and flexible shapes. What each means and where it comes from stands in table.py."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.mil.lint.facts import Hit, makers, sizes
from runtime.mil.program import Function, NamedType, Program, StateType, TensorType

NARROW, STATE_MULTIPLE, STATES, SHAPES, ENUMERATED_SPECIFICATION = 32, 32, 2, 128, 9


def narrow_interface(program: Program, function: Function) -> Iterator[Hit]:
    made = makers(function)
    outputs = [(name, next(output.type for output in made[name].outputs if output.name == name)) for name in function.block.outputs if name in made]
    for name, kind in (*((value.name, value.type) for value in function.inputs), *outputs):
        last = sizes(kind)[-1:]
        if isinstance(kind, TensorType) and kind.dtype.is_float and len(kind.shape or ()) > 1 and last and 0 < last[0] < NARROW:
            yield Hit("input or output", name, f"{kind}")


def state_dimension(program: Program, function: Function) -> Iterator[Hit]:
    for state in function.states:
        if _wrapped(state).shape and sizes(_wrapped(state))[-1] % STATE_MULTIPLE:
            yield Hit("state", state.name, f"{_wrapped(state)}")


def many_states(program: Program, function: Function) -> Iterator[Hit]:
    for state in function.states[STATES:]:
        yield Hit("state", state.name, f"{len(function.states)} states")


def any_state(program: Program, function: Function) -> Iterator[Hit]:
    for state in function.states:
        yield Hit("state", state.name, f"{_wrapped(state)}")


def range_shape(program: Program, function: Function) -> Iterator[Hit]:
    for name, feature in function.features.items():
        if any(low != high for low, high in feature.ranges):
            yield Hit("input", name, f"sizes {feature.ranges}")


def mixed_shapes(program: Program, function: Function) -> Iterator[Hit]:
    ranged = [name for name, feature in function.features.items() if any(low != high for low, high in feature.ranges)]
    for name, feature in function.features.items():
        if ranged and len(feature.enumerated) > 1:
            yield Hit("input", name, f"enumerated, while `{ranged[0]}` is a range")


def enumerated_inputs(program: Program, function: Function) -> Iterator[Hit]:
    several = {name: feature.enumerated for name, feature in function.features.items() if len(feature.enumerated) > 1}
    if len(several) > 1 and (program.specification_version < ENUMERATED_SPECIFICATION or len({len(shapes) for shapes in several.values()}) > 1):
        for name, shapes in several.items():
            yield Hit("input", name, f"{len(shapes)} shapes, specification {program.specification_version}")


def many_shapes(program: Program, function: Function) -> Iterator[Hit]:
    for name, feature in function.features.items():
        if len(feature.enumerated) > SHAPES:
            yield Hit("input", name, f"{len(feature.enumerated)} shapes")


def enumerated_norm(program: Program, function: Function) -> Iterator[Hit]:
    if any(len(feature.enumerated) > 1 for feature in function.features.values()):
        for operation in function.operations():
            if operation.type == "layer_norm":
                yield Hit(operation.type, operation.name, "layer_norm beside enumerated shapes")


def input_type(program: Program, function: Function) -> Iterator[Hit]:
    for value in function.inputs:
        if isinstance(value.type, TensorType) and value.type.dtype.mil in ("int64", "uint64", "uint32", "uint16", "uint8"):
            yield Hit("input", value.name, value.type.dtype.mil)


def plain_names(program: Program, function: Function) -> Iterator[Hit]:
    for name in (*(value.name for value in (*function.inputs, *function.states)), *function.block.outputs):
        if not (name.isascii() and name.isidentifier()):
            yield Hit("input or output", name, "no identifier")


def _wrapped(state: NamedType) -> TensorType:
    assert isinstance(state.type, StateType)  # of a function's states, by construction
    return state.type.wrapped
