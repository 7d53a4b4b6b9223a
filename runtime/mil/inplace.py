"""Which slice updates may write into the memory of a state, decided from the order of the steps alone.

Here: the rule, and what may share memory with what. Not here: doing it (execute.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtime.mil.plan import BlockPlan, Step

# Operations whose result never shares memory with an operand; of every other one it may. What lower.py does instead of them keeps this.
FRESH = frozenset({
    "abs", "acos", "add", "asin", "atan", "atanh", "ceil", "concat", "conv", "conv_transpose", "cos", "cosh", "cumsum", "equal", "erf", "exp", "exp2",
    "floor", "floor_div", "gather", "gather_along_axis", "greater", "greater_equal", "layer_norm", "less", "less_equal", "linear", "logical_and",
    "logical_not", "logical_or", "matmul", "maximum", "minimum", "mod", "mul", "not_equal", "pow", "real_div", "reduce_argmax", "reduce_max",
    "reduce_mean", "reduce_sum", "relu", "round", "rsqrt", "scaled_dot_product_attention", "select", "sigmoid", "sign", "silu", "sin", "sinh",
    "softmax", "sqrt", "square", "stack", "sub", "tan", "tanh", "tile",
})  # fmt: skip


@dataclass(eq=False)
class _Buffer:
    """The memory that a state has at one point of the program. sharing: values that may lie in it; whole: those that are all of it as it now is."""

    sharing: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)


class _Memory:
    """What may share memory with what, step after step."""

    def __init__(self, states: Sequence[str], last: Mapping[str, int]) -> None:
        self.buffers = {name: _Buffer() for name in states}
        self._shares: dict[str, set[_Buffer]] = {}
        self._last, self._closed = last, set[str]()

    def reads(self, state: str, name: str) -> None:
        """`name` is the state as it now is."""
        self._join(self.buffers[state], name)
        self.buffers[state].whole.add(name)

    def replaces(self, state: str) -> None:
        self.buffers[state] = _Buffer()

    def updates(self, state: str, name: str) -> None:
        """The state's memory changes in place; `name` is what it then holds."""
        self.buffers[state].whole.clear()
        self.reads(state, name)

    def passes(self, step: Step) -> None:
        """The results of a step may lie where its operands do."""
        for buffer in {buffer for name in names(step) for buffer in self._shares.get(name, ())}:
            for output in step.outputs:
                self._join(buffer, output.name)

    def nested(self, step: Step) -> None:
        """Blocks that touch a state are not looked into: that state is never written in place again."""
        for state in self.buffers:
            if step.blocks and _touches(step, state):
                self._closed.add(state)
                self.replaces(state)

    def allows(self, step: Step, at: int, state: str) -> bool:
        if not state or state in self._closed:
            return False
        buffer, (x, update) = self.buffers[state], (_named(step, "x"), _named(step, "update"))
        return x in buffer.whole and buffer not in self._shares.get(update, ()) and all(self._last.get(name, -1) <= at for name in buffer.sharing)

    def _join(self, buffer: _Buffer, name: str) -> None:
        buffer.sharing.add(name)
        self._shares.setdefault(name, set()).add(buffer)


def in_place(steps: Sequence[Step], outputs: Sequence[str], states: Sequence[str]) -> dict[int, str]:
    """By place, the state of every slice_update that may write into it, and of every write_state that then has nothing to do.

    A slice_update may iff its x is all of the state's memory as it is now; no other value that may share it is used later (an output always
    is); the update does not share it; and the result is written to that state before anything else reads or writes it.
    """
    memory, found = _Memory(states, last_uses(steps, outputs)), dict[int, str]()
    for at, step in enumerate(steps):
        if step.kind == "read_state":
            memory.reads(step.state, step.outputs[0].name)
        elif step.kind == "write_state":
            if _named(step, "data") in memory.buffers[step.state].whole:
                found[at] = step.state
            else:
                memory.replaces(step.state)
        elif step.kind == "slice_update":
            state = _target(steps, at)
            if memory.allows(step, at, state):
                memory.updates(state, step.outputs[0].name)
                found[at] = state
        elif step.kind not in FRESH:
            memory.passes(step)
            memory.nested(step)
    return found


def steady_states(plan: BlockPlan, states: Sequence[str], direct: Mapping[int, str]) -> frozenset[str]:
    """States whose memory stays the same throughout: everything that a function reads of them and writes to them is one tensor."""
    replaced = {step.state for at, step in enumerate(plan.steps) if step.kind == "write_state" and at not in direct}
    nested = {state for state in states for step in plan.steps if step.blocks and _touches(step, state)}
    return frozenset(states) - replaced - nested


def _target(steps: Sequence[Step], at: int) -> str:
    """The state that the result of a slice_update is written to before anything else touches that state; empty if there is none."""
    result = steps[at].outputs[0].name
    for place in range(at + 1, len(steps)):
        later = steps[place]
        if later.kind == "write_state" and names(later) == (result,):
            return "" if any(_touches(other, later.state) for other in steps[at + 1 : place]) else later.state
    return ""


def names(step: Step) -> tuple[str, ...]:
    """The values of a run that a step takes, those that its blocks use included."""
    own: list[str] = []
    for source in step.sources:
        own += [source.value] if isinstance(source.value, str) else [part for part in source.value if isinstance(part, str)]
    for block in step.blocks:
        own += block.outputs
        own += [name for inner in block.steps for name in names(inner)]
    return tuple(own)


def last_uses(steps: Sequence[Step], outputs: Sequence[str]) -> dict[str, int]:
    """By value, the place of the last step that uses it; beyond the end for what is returned."""
    last = {name: at for at, step in enumerate(steps) for name in names(step)}
    return last | dict.fromkeys(outputs, len(steps))


def _named(step: Step, parameter: str) -> str:
    """The value that a parameter takes; empty for constants."""
    return next((source.value for source in step.sources if source.parameter == parameter and isinstance(source.value, str)), "")


def _touches(step: Step, state: str) -> bool:
    if step.kind in ("read_state", "write_state") and step.state == state:
        return True
    return any(_touches(inner, state) for block in step.blocks for inner in block.steps)
