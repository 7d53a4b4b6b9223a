"""Whether the tensors of a file are those that an architecture needs, of any library.

Here: names, shapes and types against a contract. Not here: reading the file (checkpoint.py, runtime/backends/mapped.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from interlock.contracts.checkpoint import CheckpointContract
from interlock.errors import ContractError, Violation

REMEDY = "write the checkpoint again: interlock import SOURCE --out DIRECTORY"


class Shaped(Protocol):
    """A tensor or an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def check_fit(weights: Mapping[str, Shaped], dtypes: Mapping[str, str], contract: CheckpointContract, path: Path) -> None:
    """dtypes: of each by name, as `float32`. Raises ContractError that lists every missing, unknown, misshapen or mistyped tensor."""
    mistyped = [
        Violation(str(path), name, f"dtype {contract.dtype}, as its contract says", dtypes[name])
        for name in weights
        if dtypes[name] != contract.dtype
    ]
    if violations := [*differences(weights, contract.arch.weight_shapes(contract.model_arch), path), *mistyped]:
        raise ContractError(*violations, remedy=REMEDY)


def differences(weights: Mapping[str, Shaped], expected: Mapping[str, tuple[int, ...]], path: Path) -> Iterator[Violation]:
    """What keeps `weights` from being the tensors that an architecture needs: one violation per tensor, in the architecture's order."""
    for name, shape in expected.items():
        if name not in weights:
            yield Violation(str(path), name, f"a tensor of shape {list(shape)}", "nothing")
        elif tuple(weights[name].shape) != shape:
            yield Violation(str(path), name, f"shape {list(shape)}", f"{list(weights[name].shape)}")
    for name in sorted(weights.keys() - expected.keys()):
        yield Violation(str(path), name, "no such tensor in this architecture", f"shape {list(weights[name].shape)}")
