"""A target is kept by the package that is written: bytes of its weight file, or the divergence of the student with its weights."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest
from fakes.students import some_ids

from interlock.errors import GateFailed
from pipeline.coreml.compression.search import Found, Search, Target
from runtime.student.model import Student

pytestmark = pytest.mark.export
# A file ends with its last array: the zeros that would follow are counted and not written.
ALIGNMENT = 64


def student() -> Student:
    from fakes.converted_students import compressible

    return compressible().exported.student


@functools.cache
def ids() -> list[int]:
    return [int(number) for number in some_ids(student().arch, 64)]


@functools.cache
def made() -> Search:
    """int4 in blocks as the smallest form; 8 and 16 bits beside it."""
    from fakes.converted_students import merged_compressible

    from pipeline.coreml.compression.compress import Request, search, student_weights

    weights = student_weights(merged_compressible(), student(), lambda _: None)
    return search(merged_compressible(), weights, Request("int4"), student(), ids(), lambda _: None)


def written(tmp_path: Path, found: Found) -> int:
    """Bytes of the weight file with these forms."""
    from fakes.converted_students import merged_compressible

    from pipeline.coreml.compression.compress import student_weights
    from pipeline.coreml.compression.rewrite import rewrite
    from pipeline.coreml.merge import WEIGHTS

    weights = student_weights(merged_compressible(), student(), lambda _: None)
    into = tmp_path / f"{sum(form is None for form in found.forms.values())}.mlpackage"
    rewrite(merged_compressible(), into, lambda weight: found.forms[weight.name], weights, "mixed")
    return (into / WEIGHTS).stat().st_size


def chosen_bytes(found: Found) -> int:
    (size,) = (point.weight_bytes for point in found.points if point.chosen)
    return size


def test_a_size_is_kept_by_the_file_that_is_written(tmp_path: Path) -> None:
    smallest = chosen_bytes(made().find(Target(None, 10.0)))
    largest = chosen_bytes(made().find(Target(None, 1e-12)))  # every weight in fp16, which holds them exactly
    for at, target in enumerate(range(smallest, largest + 1, (largest - smallest) // 3)):
        found = made().find(Target(target, None))
        size = written(tmp_path / str(at), found)
        assert size <= chosen_bytes(found) <= target
        assert chosen_bytes(found) - size < ALIGNMENT


def test_one_byte_less_than_the_smallest_is_refused_with_both_figures() -> None:
    smallest = chosen_bytes(made().find(Target(None, 10.0)))
    with pytest.raises(GateFailed) as refused:
        made().find(Target(smallest - 1, None))
    assert (refused.value.measured, refused.value.threshold) == (f"{smallest} bytes", f"{smallest - 1} bytes")


@pytest.mark.parametrize("limit", [3e-2, 1e-3, 1e-4])
def test_a_divergence_is_kept_by_the_student_with_those_weights(limit: float) -> None:
    """Measured again without the search: a copy of the student with every form's values."""
    import torch

    from runtime.numerics import compare_logits
    from runtime.student.checkpoint import student_from

    found = made().find(Target(None, limit))
    weights = dict(student().state_dict())
    weights |= {name: torch.from_numpy(form.values()).float() for name, form in found.forms.items() if form is not None}
    other = student_from(student().arch, student().heads, weights)
    with torch.inference_mode():
        both = [each.logits(each.hidden(torch.tensor([ids()])))[0] for each in (student(), other)]
    (kl,) = (point.kl_measured for point in found.points if point.chosen)
    assert compare_logits(*both).kl_mean == pytest.approx(kl, rel=0.01) and kl is not None and kl <= limit
    # the next smaller point on record, if there is one, is not good enough or the same
    assert all(point.kl_measured is None or point.kl_measured > limit for point in found.points if point.weight_bytes < chosen_bytes(found))


def test_the_record_falls_from_the_smallest_to_the_most_faithful() -> None:
    points = made().find(Target(None, 1e-3)).points
    assert sum(point.chosen for point in points) == 1
    for before, after in itertools.pairwise(points):
        assert before.weight_bytes < after.weight_bytes and before.kl_predicted >= after.kl_predicted
        assert sum(before.forms.values()) == sum(after.forms.values()) == 15
    assert set(points[0].forms) <= {"int4 blocks of 32", "int8 per channel"} and points[0].kl_measured is not None
    assert points[0].kl_measured > 10 * (points[-1].kl_measured or 0)


def test_a_divergence_that_even_fp16_exceeds_is_refused() -> None:
    """The student's own weights do not fit fp16: rounding them is a divergence that no form removes."""
    from fakes.students import compressible_student

    from pipeline.coreml.compression.linear import linear

    other = compressible_student()
    weights = {name: parameter.data.half().numpy() for name, parameter in other.named_parameters() if parameter.dim() == 2}
    search = Search(other, weights, [lambda values: linear(values, 8, 0)], 0, ids(), lambda _: None)
    with pytest.raises(GateFailed, match="fp16 itself"):
        search.find(Target(None, 1e-15))
