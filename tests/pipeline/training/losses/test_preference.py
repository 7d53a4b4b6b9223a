"""Preferred tokens become likelier and avoided ones less likely: those that are there, and no others."""

from __future__ import annotations

import math

import pytest
import torch
from fakes.plain_losses import ROW_ERROR, softmax
from fakes.teachings import ROWS, VOCABULARY, fp64, logits, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.code_mode import prefers_code
from pipeline.training.losses.preference import preference_loss
from pipeline.training.settings import CodeMode

pytestmark = pytest.mark.train

MARKS = torch.tensor([1, -1, 0, 1, -1], dtype=torch.int8)
TOKENS = torch.tensor([3, 0, 5, 11, 7])


@settings(deadline=None)
@given(seeds)
def test_it_is_likelihood_of_the_one_and_unlikelihood_of_the_other(seed: int) -> None:
    student = logits(seed)
    p = [softmax(row)[token] for row, token in zip(fp64(student), TOKENS, strict=True)]
    loss = preference_loss(student, TOKENS, MARKS)
    expected = -math.log(p[0]) - math.log1p(-p[1]) - math.log(p[3]) - math.log1p(-p[4])
    assert loss.total.item() == pytest.approx(expected, abs=ROWS * ROW_ERROR)
    assert int(loss.count) == 4


@settings(deadline=None)
@given(seeds, st.integers(0, VOCABULARY - 1))
def test_its_gradient_is_about_the_token_that_is_there(seed: int, token: int) -> None:
    """∂/∂logits: p - onehot for a preferred token, (onehot - p) p(token) / (1 - p(token)) for an avoided one. Not V · p - 1, the push towards
    uniform of a sum over the vocabulary."""
    student = logits(seed, 2).requires_grad_()
    preference_loss(student, torch.tensor([token, token]), torch.tensor([1, -1], dtype=torch.int8)).total.backward()
    assert student.grad is not None
    onehot = [float(i == token) for i in range(VOCABULARY)]
    liked, shunned = (softmax(row) for row in fp64(student))
    assert fp64(student.grad)[0] == pytest.approx(liked - onehot, abs=ROW_ERROR)
    rest = shunned.sum() - shunned[token]
    assert fp64(student.grad)[1] == pytest.approx((onehot - shunned) * shunned[token] / rest, abs=16 * ROW_ERROR)


def test_a_token_that_is_certain_and_avoided_has_a_finite_loss() -> None:
    """1 - p is 0 in fp32; the log of what the others sum to is -60."""
    student = torch.tensor([[60.0, 0.0]], requires_grad=True)
    loss = preference_loss(student, torch.tensor([0]), torch.tensor([-1], dtype=torch.int8)).total
    loss.backward()
    assert loss.item() == pytest.approx(60)
    assert student.grad is not None and student.grad.tolist()[0] == pytest.approx([1, -1])


def test_rows_without_a_mark_take_no_part() -> None:
    student = logits(0)
    student[MARKS == 0] = math.nan
    assert preference_loss(student, TOKENS, MARKS).total.item() == pytest.approx(preference_loss(logits(0), TOKENS, MARKS).total.item())
    assert int(preference_loss(student, TOKENS, torch.zeros_like(MARKS)).count) == 0


def test_its_weight_grows_as_the_guide_says() -> None:
    assert [CodeMode().at(step) for step in (0, 2500, 5000, 9999)] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    assert CodeMode(over=0).at(0) == pytest.approx(0.3)


def test_it_is_for_dialogues_with_many_tools_long_results_or_personal_data() -> None:
    assert not prefers_code(1, 9_999, personal=False)
    assert prefers_code(2, 0, personal=False) and prefers_code(0, 10_000, personal=False) and prefers_code(0, 0, personal=True)
