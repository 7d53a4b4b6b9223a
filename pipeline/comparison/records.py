"""What a comparison found, as records.

Here: the records and the verdict that follows from them. Not here: finding differences (fields.py, tensors.py, graphs.py, texts.py), tables
(pipeline/reports).
"""

from __future__ import annotations

from typing import Literal

from interlock.contracts.base import Frozen

Outcome = Literal["same", "numerically same", "differs"]
# decides: the two are not the same thing; storage: another form of the same values; measured: a figure of a gate; origin: where it came from.
Weight = Literal["decides", "storage", "measured", "origin"]


class Side(Frozen):
    """One of the two directories."""

    directory: str
    kind: str
    digest: str
    bytes: int


class Change(Frozen):
    """A field with another value; a text for each side, null where the side has no such field. part: the contract or file that it stands in."""

    part: str
    place: str
    weight: Weight
    a: str | None
    b: str | None


class Figure(Frozen):
    """A measured figure on both sides, null where a side lacks it. unit: dB, KL (nats per position), or empty for a share or a count."""

    part: str
    place: str
    unit: str
    a: float | None
    b: float | None


class File(Frozen):
    """Sizes in bytes, null where a side has no such file; equal: the same bytes. explained: its content is compared by value, not by bytes."""

    path: str
    a: int | None
    b: int | None
    equal: bool
    explained: bool


class Count(Frozen):
    """How often an operation stands in a function. storage: it only holds or unpacks constants."""

    part: str
    function: str
    operation: str
    a: int
    b: int
    storage: bool


class Structure(Frozen):
    """A difference of two graphs that counting does not show, or a missing function."""

    part: str
    function: str
    place: str
    a: str
    b: str


class Tensor(Frozen):
    """A tensor with other numbers, another shape or another form. shape: sizes, null where a side has none; form: how it is stored.

    max_abs: greatest difference of an element, null where shapes differ or a value is not finite; relative: that over the greatest element of A;
    psnr_db: 20 log10(greatest |A| / rms difference), capped at 200; within: no element differs by more than the bound.
    """

    part: str
    name: str
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    form_a: str | None
    form_b: str | None
    max_abs: float | None = None
    relative: float | None = None
    psnr_db: float | None = None
    within: bool


class Comparison(Frozen):
    """bound: the greatest difference of an element, over the greatest element of its tensor in A, that still counts as numerically same.

    tensors: those that are not equal in value and form; compared: how many there are; figures: of the gates, both sides.
    """

    a: Side
    b: Side
    outcome: Outcome
    bound: float
    reasons: tuple[str, ...]
    changes: tuple[Change, ...]
    figures: tuple[Figure, ...]
    files: tuple[File, ...]
    counts: tuple[Count, ...]
    structure: tuple[Structure, ...]
    tensors: tuple[Tensor, ...]
    compared: int


class Found(Frozen):
    """What one look at a part found."""

    changes: tuple[Change, ...] = ()
    figures: tuple[Figure, ...] = ()
    counts: tuple[Count, ...] = ()
    structure: tuple[Structure, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    compared: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(
            changes=self.changes + other.changes,
            figures=self.figures + other.figures,
            counts=self.counts + other.counts,
            structure=self.structure + other.structure,
            tensors=self.tensors + other.tensors,
            compared=self.compared + other.compared,
        )

    def worst_first(self) -> Found:
        """The same, tensors in order of PSNR; those that cannot be measured first."""
        order = sorted(self.tensors, key=lambda item: (item.max_abs is not None, item.psnr_db if item.psnr_db is not None else -1.0))
        return self.model_copy(update={"tensors": tuple(order)})


def reasons_of(found: Found, files: tuple[File, ...]) -> tuple[str, ...]:
    """Why two artifacts differ, the plainest first; empty where they are the same in every value."""
    return (
        *(f"{item.part} {item.place}: {_told(item.a)} against {_told(item.b)}" for item in found.changes if item.weight == "decides"),
        *(f"{item.part} {item.function}: {item.place}: {item.a} against {item.b}" for item in found.structure),
        *(f"{item.part} {item.function}: {item.a} against {item.b} x {item.operation}" for item in found.counts if not item.storage),
        *(f"{item.part} {item.name}: {_far(item)}" for item in found.tensors if not item.within),
        *(f"{item.path}: {_told(item.a)} against {_told(item.b)} bytes" for item in files if not item.equal and not item.explained),
    )


def outcome_of(reasons: tuple[str, ...], found: Found, files: tuple[File, ...]) -> Outcome:
    if reasons:
        return "differs"
    changed = (
        found.tensors or found.counts or any(item.weight != "origin" for item in found.changes) or any(item.a != item.b for item in found.figures)
    )
    return "numerically same" if changed or not all(item.equal for item in files) else "same"


def _told(value: object) -> str:
    return "none" if value is None else str(value)


def _far(item: Tensor) -> str:
    if item.shape_a != item.shape_b:
        return f"shape {_sizes(item.shape_a)} against {_sizes(item.shape_b)}"
    if item.max_abs is None:
        return "a value is not finite"
    return f"differs by up to {item.max_abs:.3g}" + (f", {item.psnr_db:.1f} dB" if item.psnr_db is not None else "")


def _sizes(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(list(shape))
