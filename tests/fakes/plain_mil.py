"""ML Programs run the plain way: every operation by its own function, every state update a copy, nothing rewritten, nothing freed.

What every executor must equal bit for bit. One thing is shared on purpose: the product of a constant matrix, because the order of its sums is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from runtime.mil.plan import BlockPlan, Output, Source, Step, on_host, plan_function
from runtime.mil.program import Program
from runtime.mil.weights import Matrix, Weights

Values = dict[str, Any]


def run_plainly(program: Program, name: str, inputs: Mapping[str, Tensor], states: Mapping[str, Tensor], *, half: bool) -> tuple[Values, Values]:
    """(outputs, states after) of a function. inputs and states as computing holds them; they are not changed. half: round as mode `fp16`."""
    plan, weights = plan_function(program, program.functions[name], Weights()), Weights()
    kept = {key: tensor.clone() for key, tensor in states.items()}
    results = _block(plan, dict(inputs), kept, weights, half)
    return dict(zip(plan.outputs, results, strict=True)), kept


def _block(plan: BlockPlan, values: Values, states: Values, weights: Weights, half: bool) -> list[Tensor]:
    for step in plan.steps:
        for output, result in zip(step.outputs, _step(step, values, states, weights, half), strict=True):
            moves = step.entry is None or step.entry.moves
            values[output.name] = _settled(output, result, half and not moves)
    return [values[name] if name in values else plan.constants[name] for name in plan.outputs]


def _step(step: Step, values: Values, states: Values, weights: Weights, half: bool) -> tuple[Tensor, ...]:
    given = {**step.fixed, **{source.parameter: _value(source, values) for source in step.sources}}
    if step.kind == "read_state":
        return (states[step.state].clone(),)
    if step.kind == "write_state":
        states[step.state] = given["data"].clone()
        return ()
    if step.kind == "cond":
        return tuple(_block(step.blocks[0 if bool(given["pred"]) else 1], dict(values), states, weights, half))
    if step.kind == "while_loop":
        return _loop(step, given["loop_vars"], lambda block, named: _block(block, {**values, **named}, states, weights, half))
    if step.kind == "linear" and isinstance(given["weight"], Matrix):
        return (_linear(weights, **given),)
    assert step.entry is not None
    result = step.entry.run(**{name: weights.tensor(value.parts[0]) if isinstance(value, Matrix) else value for name, value in given.items()})
    return result if isinstance(result, tuple) else (result,)


def _linear(weights: Weights, x: Tensor, weight: Matrix, bias: Tensor | None = None) -> Tensor:
    product, flat = weights.product(weight), x.reshape(-1, x.shape[-1])
    rows = product.vector(flat[0])[None] if len(flat) == 1 else product.rows(flat)
    whole = rows.reshape(*x.shape[:-1], -1)
    return whole if bias is None else whole + bias


def _loop(step: Step, carried: tuple[Tensor, ...], run: Callable[[BlockPlan, Values], list[Tensor]]) -> tuple[Tensor, ...]:
    condition, body = step.blocks
    while bool(run(condition, _named(condition, carried))[0]):
        carried = tuple(run(body, _named(body, carried)))
    return carried


def _named(block: BlockPlan, carried: tuple[Tensor, ...]) -> Values:
    return {value.name: given for value, given in zip(block.inputs, carried, strict=True)}


def _value(source: Source, values: Values) -> Any:
    if isinstance(source.value, tuple):
        return tuple(values[part] if isinstance(part, str) else part for part in source.value)
    value = values[source.value]
    return value if source.given == "Tensor" else on_host(value.tolist(), source.given)


def _settled(output: Output, value: Tensor, half: bool) -> Tensor:
    assert output.type.admits(tuple(value.shape)), (output, value.shape)
    return value.half().float().to(output.carrier) if half and output.half else value.to(output.carrier)
