"""Predicted divergence against the measured one, and the student as it was before."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from fakes.students import some_ids, tiny_student
from torch import Tensor

from interlock.contracts.checkpoint import ModelArch
from pipeline.coreml.compression.sensitivity import Measure, predicted
from runtime.student.model import Student

IDS = [int(number) for number in some_ids(tiny_student().arch, 300)]


@functools.cache
def student() -> Student:
    return tiny_student(ModelArch(), tie_embeddings=True)


def changes(scale: float) -> dict[str, list[Tensor]]:
    """A random change of every matrix, of a size relative to it."""
    random = torch.Generator().manual_seed(1)
    matrices = {name: parameter.data for name, parameter in student().named_parameters() if parameter.dim() == 2}
    return {name: [torch.randn(weight.shape, generator=random) * weight.std() * scale] for name, weight in matrices.items()}


def state() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in student().state_dict().items()}


def assert_unchanged(before: dict[str, Tensor]) -> None:
    assert all(torch.equal(tensor, before[name]) for name, tensor in student().state_dict().items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in student().parameters())


def test_the_sum_of_predictions_is_the_measured_divergence_of_all_changes() -> None:
    """Eight draws over 22 weights: the sum of squares of normal numbers deviates by √(2 / (8 · 22)) = 11 %, more where a few weights dominate;
    changes of 1 % leave terms beyond the second order below a percent. Three deviations."""
    made = changes(0.01)
    sums = sum(costs[0] for costs in predicted(student(), IDS, made, lambda _: None).values())
    measure = Measure(student(), IDS)
    measured = measure((name, student().get_parameter(name).data + change) for name, (change,) in made.items()).kl_mean
    assert sums == pytest.approx(measured, rel=0.35)


def test_predictions_grow_with_the_square_of_a_change_and_are_zero_without_one() -> None:
    made = {"blocks.0.mlp.w2.weight": [changes(0.01)["blocks.0.mlp.w2.weight"][0] * factor for factor in (0.0, 1.0, 3.0)]}
    nothing, once, thrice = predicted(student(), IDS, made, lambda _: None)["blocks.0.mlp.w2.weight"]
    assert nothing == 0 < once and thrice == pytest.approx(9 * once)


def test_predictions_are_the_same_every_time_and_leave_no_trace() -> None:
    before, made = state(), changes(0.01)
    generator = torch.get_rng_state()
    assert predicted(student(), IDS, made, lambda _: None) == predicted(student(), IDS, made, lambda _: None)
    assert torch.equal(torch.get_rng_state(), generator)
    assert_unchanged(before)


def test_an_interrupted_prediction_leaves_no_trace() -> None:
    before = state()

    def stop(text: str) -> None:
        if "3 of" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predicted(student(), IDS, changes(0.01), stop)
    assert_unchanged(before)


def test_a_text_shorter_than_a_draw_is_read_as_a_whole() -> None:
    assert all(costs[0] > 0 for costs in predicted(student(), IDS[:9], changes(0.01), lambda _: None).values())


def test_a_measurement_gives_the_weights_back() -> None:
    before, measure = state(), Measure(student(), IDS)
    assert measure(iter(())).kl_mean == 0
    weight = student().get_parameter("blocks.1.attn.wo.weight").data
    assert measure(iter([("blocks.1.attn.wo.weight", weight * 1.1)])).kl_mean > 0
    assert_unchanged(before)


def test_a_measurement_that_fails_gives_the_weights_back() -> None:
    before, measure = state(), Measure(student(), IDS)

    def broken() -> Iterator[tuple[str, Tensor]]:
        yield "embed.weight", torch.zeros_like(student().get_parameter("embed.weight"))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        measure(broken())
    assert_unchanged(before)
    with pytest.raises(RuntimeError):
        measure(iter([("blocks.0.mlp.w1.weight", torch.zeros(3, 3))]))
    assert_unchanged(before)
