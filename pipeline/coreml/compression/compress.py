"""Compress a finished fp16 package: the forms of its weights by method and target, the new package, the inventory.

Here: the order of work. Not here: reading checkpoints and contracts (pipeline/stages/convert.py), judging the result (pipeline/gates).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from interlock.contracts.package import FrontierPoint, Method, StoredWeight
from interlock.errors import GateFailed
from pipeline.coreml.compression.gguf_blocks import snr_db
from pipeline.coreml.compression.recipes import finer, maker
from pipeline.coreml.compression.rewrite import Weight, digest_of, rewrite, weights_of
from pipeline.coreml.compression.search import DENSE, Search, Target
from pipeline.coreml.compression.stored import Form
from pipeline.coreml.compression.touched import MIN_ELEMENTS, matrices
from pipeline.coreml.merge import WEIGHTS
from pipeline.coreml.weights import ALIGNMENT, taken
from runtime.student.model import Student

SNR_CAP_DB = 200.0


@dataclass(frozen=True)
class Request:
    """What a person chose. group: None for the method's own; at most one of the targets."""

    method: Method
    group: int | None = None
    target_bytes: int | None = None
    target_kl: float | None = None


@dataclass(frozen=True)
class Made:
    """weights: of the package, by the student's names; missing: matrices of the student that the package does not hold as they are."""

    weights: dict[str, StoredWeight]
    missing: tuple[str, ...]
    frontier: tuple[FrontierPoint, ...] = ()


def compress(
    package: Path,
    into: Path,
    request: Request,
    student: Student,
    carried: Iterable[tuple[str, Form | str]],
    ids: Sequence[int],
    note: Callable[[str], None],
) -> Made:
    """Write `into`, the package with its weights in other forms. carried: the source's own, for method `source`. ids: a text, for a search.

    Raises GateFailed where no weight of the student is in the package, or no choice of forms meets the target.
    """
    weights = student_weights(package, student, note)
    found: dict[str, Form | None] = {}
    reasons: dict[str, str] = {}
    points: tuple[FrontierPoint, ...] = ()
    if request.method == "source":
        for name, form in carried:
            note(f"blocks of {name}")
            found[name], reasons[name] = (None, form) if isinstance(form, str) else (form, "")
        reasons |= {weight.name: "the source stored it dense" for weight in weights if weight.name not in found}
    elif request.target_bytes is not None or request.target_kl is not None:
        chosen = search(package, weights, request, student, ids, note).find(Target(request.target_bytes, request.target_kl))
        found, points = dict(chosen.forms), chosen.points
    inventory: dict[str, StoredWeight] = {}
    make = None if found or reasons else maker(request.method, request.group)

    def form_of(weight: Weight) -> Form | None:
        note(weight.name)
        form = make(weight.values) if make else found.get(weight.name)
        inventory[weight.name] = _stored(weight, form, student, reasons.get(weight.name) or None)
        return form

    rewrite(package, into, form_of, weights, _label(request))
    missing = sorted(matrices(student).keys() - inventory.keys())
    return Made(dict(sorted(inventory.items())), tuple(missing), points)


def student_weights(package: Path, student: Student, note: Callable[[str], None]) -> list[Weight]:
    """The student's matrices that the package stores, found by value. Raises GateFailed if there is none."""
    note("find the weights")
    large = matrices(student)
    weights = weights_of(package, {digest_of(matrix.data.half().numpy()): name for name, matrix in large.items()})
    if not weights:
        raise GateFailed(
            "no weight of the student was found in the package, so there is nothing to compress",
            measured="0 matrices",
            threshold=f"{len(large)} of at least {MIN_ELEMENTS} elements",
            remedy="compress an fp16 package of this checkpoint",
        )
    return weights


def search(package: Path, weights: Sequence[Weight], request: Request, student: Student, ids: Sequence[int], note: Callable[[str], None]) -> Search:
    """Mixed forms for the weights, with the method's own form as the smallest."""
    size = (package / WEIGHTS).stat().st_size
    rest = size + -size % ALIGNMENT - sum(taken(weight.values.nbytes) for weight in weights)
    values: dict[str, NDArray[np.float16]] = {weight.name: weight.values for weight in weights}
    return Search(student, values, finer(request.method, request.group), rest, ids, note)


def _stored(weight: Weight, form: Form | None, student: Student, reason: str | None) -> StoredWeight:
    exact = student.get_parameter(weight.name).data.numpy()
    values = weight.values if form is None else form.values()
    size = weight.values.nbytes if form is None else form.size_bytes
    return StoredWeight(
        shape=weight.values.shape,
        form=DENSE if form is None else form.label,
        bits=round(8 * size / weight.values.size, 3),
        snr_db=round(min(SNR_CAP_DB, snr_db(exact, torch.from_numpy(np.array(values, copy=True)).float().numpy())), 2),
        reason=reason if form is None else None,
    )


def _label(request: Request) -> str:
    """What the model says of itself to whoever opens it."""
    if request.method == "source":
        return "source-quantised: the checkpoint's own blocks, offsets rounded to fp16"
    return request.method + (" mixed" if request.target_bytes is not None or request.target_kl is not None else "")
