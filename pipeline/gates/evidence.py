"""Evidence: outputs of a package beside what they must be, row by row, pooled per output.

Here: from pairs of outputs to figures. Not here: where the pairs come from (stateful.py, stateless.py), which figures pass (package.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interlock.contracts.package import Evidence
from runtime.numerics import Rows, compare_rows

PSNR_CAP_DB = 200.0
Outputs = Mapping[str, Tensor]


@dataclass
class Pool:
    """What one function said at many positions, of one or several texts, against one reference.

    case: which use of the function this is, empty for the plain one; against: the function of the same package it is compared with, None for the
    student. allowed_db: the PSNR whose error decides which flips rounding may cause.
    """

    function: str
    tokens: int
    allowed_db: float
    case: str = ""
    against: str | None = None
    rows: dict[str, list[Rows]] = field(default_factory=dict)

    def add(self, expected: Outputs, found: Outputs) -> None:
        """expected, found: [n, size] by output; an output of the package has its counterpart."""
        for name, values in found.items():
            self.rows.setdefault(name, []).append(compare_rows(expected[name], values))

    def evidence(self) -> Iterator[Evidence]:
        """One record for each output, in the order of names."""
        for name, parts in sorted(self.rows.items()):
            rows = Rows.joined(parts)
            record: dict[str, Any] = {"function": self.function, "tokens": self.tokens, "case": self.case, "against": self.against, "output": name}
            record |= {"positions": len(rows), "finite": rows.finite}
            if rows.finite:
                record |= {"psnr_db": _decibels(rows.psnr_db), "worst_db": _decibels(rows.worst_psnr_db)}
            if rows.finite and name.endswith("logits"):
                record |= {"kl_mean": _short(rows.kl.mean().item()), "kl_max": _short(rows.kl.max().item())}
                record |= {"flips": int(rows.flipped.sum()), "decided_flips": self._decided(rows)}
            yield Evidence(**{"psnr_db": None, **record})

    def _decided(self, rows: Rows) -> int:
        """Flips that an error of the allowed size does not explain: each of the two entries would have to be off by more than that."""
        allowed = rows.peak.max().item() * 10 ** (-self.allowed_db / 20)
        return int((rows.margin[rows.flipped] > 2 * allowed).sum())


def rows(step: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Tensor]:
    """The outputs of one call as one row each: [1, size] fp32."""
    return {name: torch.from_numpy(np.asarray(array, np.float32)).reshape(1, -1) for name, array in step.items()}


def stacked(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Rows of successive calls: [n, size]."""
    return {name: torch.cat([step[name] for step in steps]) for name in steps[0]}


def _decibels(value: float) -> float:
    return round(max(-PSNR_CAP_DB, min(value, PSNR_CAP_DB)), 2)


def _short(value: float) -> float:
    return float(f"{value:.2e}")
