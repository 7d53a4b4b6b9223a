"""Divergences are the papers' formulas, their gradients are right, and they behave as divergences do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from fakes.plain_losses import ROW_ERROR, jsd, softmax
from fakes.teachings import fp64, logits, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.losses.divergences import divergence, forward_kl, generalised_jsd, reverse_kl

pytestmark = pytest.mark.train

betas = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return logits(seed).log_softmax(-1), logits(seed + 1).log_softmax(-1)


@settings(deadline=None)
@given(seeds, betas)
def test_a_row_is_what_the_formula_says(seed: int, beta: float) -> None:
    ours = fp64(divergence(beta)(*pair(seed)))
    theirs = [jsd(softmax(s), softmax(t), beta) for s, t in zip(fp64(logits(seed)), fp64(logits(seed + 1)), strict=True)]
    assert ours == pytest.approx(theirs, abs=ROW_ERROR)


@settings(deadline=None)
@given(seeds)
def test_kl_is_that_of_torch(seed: int) -> None:
    student, teacher = pair(seed)
    assert forward_kl(student, teacher).sum().item() == pytest.approx(
        F.kl_div(student, teacher, reduction="sum", log_target=True).item(), abs=ROW_ERROR
    )
    assert reverse_kl(student, teacher).sum().item() == pytest.approx(
        F.kl_div(teacher, student, reduction="sum", log_target=True).item(), abs=ROW_ERROR
    )


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_gradients_are_those_of_finite_differences(beta: float) -> None:
    scores, teacher = logits(3, 3).double().requires_grad_(), logits(4, 3).double().log_softmax(-1)
    assert torch.autograd.gradcheck(lambda x: divergence(beta)(x.log_softmax(-1), teacher), scores)


@settings(deadline=None)
@given(seeds, betas)
def test_it_is_zero_at_equality_and_never_below(seed: int, beta: float) -> None:
    student, teacher = pair(seed)
    assert divergence(beta)(student, student).abs().max() < ROW_ERROR
    assert divergence(beta)(student, teacher).min() > -ROW_ERROR


@settings(deadline=None)
@given(seeds)
def test_the_middle_is_symmetric_and_at_most_ln_2(seed: int) -> None:
    student, teacher = pair(seed)
    ours = generalised_jsd(student, teacher, 0.5)
    assert torch.allclose(ours, generalised_jsd(teacher, student, 0.5), rtol=0, atol=ROW_ERROR)
    assert ours.max() < math.log(2) + ROW_ERROR


def test_near_its_ends_it_is_the_matching_direction_of_kl() -> None:
    """The paper's limit: JSD(β) / β → KL(teacher ‖ student) for β → 0, and its mirror image. In fp64, for the quotient of two small numbers."""
    student, teacher = (x.double().log_softmax(-1) for x in pair(7))
    assert torch.allclose(generalised_jsd(student, teacher, 1e-6) / 1e-6, forward_kl(student, teacher), rtol=1e-3)
    assert torch.allclose(generalised_jsd(student, teacher, 1 - 1e-6) / 1e-6, reverse_kl(student, teacher), rtol=1e-3)


def test_a_class_that_the_teacher_never_takes_adds_nothing_and_harms_no_gradient() -> None:
    scores = torch.zeros(1, 3, requires_grad=True)
    never = torch.tensor([[0.5, 0.5, 0.0]]).log()
    value = forward_kl(scores.log_softmax(-1), never)
    assert value.item() == pytest.approx(math.log(3 / 2))
    value.sum().backward()
    assert scores.grad is not None and scores.grad.tolist()[0] == pytest.approx([-1 / 6, -1 / 6, 1 / 3])
    assert generalised_jsd(scores.log_softmax(-1), never, 0.5).isfinite().all()
    assert reverse_kl(scores.log_softmax(-1), never).item() == math.inf


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 1.1, math.nan])
def test_a_mixture_needs_a_share_of_both(beta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        generalised_jsd(*pair(0), beta)
