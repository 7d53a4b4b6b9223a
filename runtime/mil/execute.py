"""Running compiled functions: one instruction after the other.

Here: the run itself, and what is known during it. Not here: what is decided before (plan.py, code.py), what an operation computes (ops/), arrays
of hosts (runner.py).
Modes: `fp32` widens fp16 values and rounds nothing, so that what differs from a reference is wrong in the program; `fp16` computes in fp32 and
rounds every computed value that is declared fp16, as a device stores it, so that loss of precision and overflow show. `fast` is `fp32` for
everyday use (fast/): fewer steps, and weights multiplied as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from interlock.errors import ContractError, Violation
from runtime.mil.attention import Extents
from runtime.mil.budget import Meter
from runtime.mil.code import Code, Compiled
from runtime.mil.plan import Step
from runtime.mil.results import Mismatch, Registers

Mode = Literal["fp32", "fp16", "fast"]
Values = dict[str, Tensor]
# Told of every result: the place of its operation as messages name it, its name, and its value as this mode settles it. The tensor may be a
# view of a state or of another value: it holds only during the call, and nobody may change it.
Observe = Callable[[str, str, Tensor], None]
_EXPECTED = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError, OverflowError)


@dataclass(frozen=True, slots=True)
class Frame:
    """One run. path: of the package, for messages; slots: what is known of its states; meter: what it has made."""

    path: str
    slots: Extents
    observe: Observe | None
    meter: Meter = field(default_factory=lambda: Meter(()))


def execute(compiled: Compiled, values: Mapping[str, Tensor], states: Values, frame: Frame) -> tuple[Tensor, ...]:
    """The outputs of a function. states: replaced or written in place as the program goes."""
    registers = compiled.registers.copy()
    registers[0] = replace(frame, meter=Meter((*compiled.registers, *values.values(), *states.values())))
    for name, register in compiled.inputs.items():
        registers[register] = values[name]
    for name, register in compiled.states.items():
        registers[register] = states[name]
    results = run_block(compiled.code, registers)
    states.update({name: registers[register] for name, register in compiled.states.items()})
    return results


def run_block(code: Code, registers: Registers) -> tuple[Tensor, ...]:
    """The outputs of a block; registers of its own values are cleared as it goes."""
    frame: Frame = registers[0]
    meter = frame.meter
    meter.entered(len(code.instructions))
    for instruction in code.instructions:
        try:
            instruction.go(registers)
            for _, register in instruction.results:
                meter.made(registers[register].nbytes, registers)
        except Mismatch as problem:
            raise _refusal(frame, instruction.step, problem.expected, problem.found) from problem
        except _EXPECTED as problem:
            raise _refusal(frame, instruction.step, "operands that fit the operation", f"{type(problem).__name__}: {problem}") from problem
        if frame.observe is not None:
            for name, register in instruction.results:
                frame.observe(instruction.step.place, name, registers[register])
        for register in instruction.free:
            registers[register] = None
    return tuple(registers[register] for register in code.outputs)


def _refusal(frame: Frame, step: Step, expected: str, found: str) -> ContractError:
    return ContractError(Violation(frame.path, step.place, expected, found[:400]), remedy="convert again: the program contradicts itself")
