"""Mixed forms: the frontier of a package between its size and its divergence, and the point on it that a person asked for.

Here: options for every weight, predictions, measurements, the chosen point. Not here: what they rest on (sensitivity.py, assignment.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interlock.contracts.package import FrontierPoint
from interlock.errors import GateFailed
from pipeline.coreml.compression.assignment import Option, Point, frontier, largest_within, smallest_within
from pipeline.coreml.compression.recipes import Make
from pipeline.coreml.compression.sensitivity import Measure, predicted
from pipeline.coreml.compression.stored import Form
from pipeline.coreml.weights import taken
from runtime.student.model import Student

DENSE = "fp16"
# Points that a contract keeps beside the measured ones.
SHOWN = 8


@dataclass(frozen=True)
class Target:
    """One of both: bytes of the weight file, or mean KL in nats."""

    size_bytes: int | None
    kl: float | None


@dataclass(frozen=True)
class Found:
    """The chosen form of every weight, None for fp16, and the frontier that it was chosen on."""

    forms: Mapping[str, Form | None]
    points: tuple[FrontierPoint, ...]


class Search:
    """Options are made once; asking for several targets costs a few runs of the student each."""

    def __init__(
        self,
        student: Student,
        weights: Mapping[str, NDArray[np.float16]],
        makers: Sequence[Make],
        rest: int,
        ids: Sequence[int],
        note: Callable[[str], None],
    ) -> None:
        """weights: fp16 [N, K] by the student's names; rest: bytes of the weight file that no form changes."""
        self._student, self._note, self._rest = student, note, rest
        self._weights = weights
        self._forms: dict[str, list[Form]] = {}
        changes: dict[str, list[Tensor]] = {}
        for name, values in weights.items():
            note(f"forms of {name}")
            self._forms[name] = [make(values) for make in makers]
            exact = student.get_parameter(name).data
            changes[name] = [(torch.from_numpy(form.values()).float() - exact).half() for form in self._forms[name]]
        costs = predicted(student, ids, changes, note)
        self._options = {
            name: [
                *(Option(form.label, form.file_bytes, cost) for form, cost in zip(forms, costs[name], strict=True)),
                Option(DENSE, taken(weights[name].nbytes), 0.0),
            ]
            for name, forms in self._forms.items()
        }
        self._points = frontier(self._options)
        self._measure = Measure(student, ids)
        self._measured: dict[int, float] = {}

    def find(self, target: Target) -> Found:
        """The chosen point. Raises GateFailed for a size that no choice reaches, or a divergence that even fp16 does not keep."""
        if target.size_bytes is not None:
            point = largest_within(self._points, target.size_bytes - self._rest)
            if point is None:
                least = self._points[0].size_bytes + self._rest
                raise GateFailed("no choice of forms is as small as that", measured=f"{least} bytes", threshold=f"{target.size_bytes} bytes",
                                 remedy="give a larger --target-size, or another --compress")  # fmt: skip
            self._kl(point)
        else:
            assert target.kl is not None
            limit = target.kl
            point = smallest_within(self._points, lambda candidate: self._kl(candidate) <= limit)
            if point is None:
                raise GateFailed("fp16 itself diverges more than that", measured=f"KL {self._kl(self._points[-1]):.2g}", threshold=f"{limit:g}",
                                 remedy="give a larger --target-kl")  # fmt: skip
        every = max(1, len(self._points) // SHOWN)
        for index in range(0, len(self._points), every):
            self._kl(self._points[index])
        forms = {name: self._forms[name][index] if index < len(self._forms[name]) else None for name, index in point.choice.items()}
        return Found(forms, tuple(self._record(at, point) for at in sorted(self._measured)))

    def _kl(self, point: Point) -> float:
        """Measured mean KL of the student with this choice."""
        at = next(index for index, candidate in enumerate(self._points) if candidate is point)
        if at not in self._measured:
            self._note(f"measure {(point.size_bytes + self._rest) / 1e6:.1f} MB")
            self._measured[at] = self._measure(self._replaced(point)).kl_mean
        return self._measured[at]

    def _replaced(self, point: Point) -> Iterator[tuple[str, Tensor]]:
        for name, index in point.choice.items():
            forms = self._forms[name]
            values: Any = forms[index].values() if index < len(forms) else self._weights[name]
            yield name, torch.from_numpy(np.array(values, copy=True)).float()

    def _record(self, at: int, chosen: Point) -> FrontierPoint:
        point = self._points[at]
        labels = Counter(self._options[name][index].label for name, index in point.choice.items())
        return FrontierPoint(
            weight_bytes=point.size_bytes + self._rest,
            kl_predicted=float(f"{max(0.0, point.kl):.3g}"),
            kl_measured=float(f"{self._measured[at]:.3g}"),
            forms=dict(sorted(labels.items())),
            chosen=point is chosen,
        )
