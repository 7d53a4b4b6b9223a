"""A student is drawn towards its teacher: full or stored, at any temperature, and by supervised tokens only."""

from __future__ import annotations

import math

import pytest
import torch
from fakes.plain_losses import ROW_ERROR, jsd, kl, merged, softmax
from fakes.teachings import ROWS, TOP, VOCABULARY, fp64, logits, seeds, temperatures, top_k
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.losses.distillation import distillation
from pipeline.training.losses.divergences import divergence, reverse_kl
from pipeline.training.losses.rows import Head
from pipeline.training.losses.teachers import FullTeacher, Tail, TopKTeacher, coarse

pytestmark = pytest.mark.train

ALL = torch.ones(ROWS, dtype=torch.bool)
TAILS: tuple[Tail, ...] = ("bucket", "zero", "symmetric_uniform")
betas = st.sampled_from([0.0, 0.1, 0.5, 0.9])


@settings(deadline=None)
@given(seeds, temperatures, st.sampled_from([0.0, 0.5, 1.0]))
def test_a_full_teacher_at_a_temperature(seed: int, temperature: float, beta: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    ours = distillation(student, FullTeacher(teacher), ALL, divergence=divergence(beta), temperature=temperature)
    theirs = sum(jsd(softmax(s, temperature), softmax(t, temperature), beta) for s, t in zip(fp64(student), fp64(teacher), strict=True))
    error = ROWS * ROW_ERROR * max(temperature, 1 / temperature) * temperature
    assert ours.total.item() == pytest.approx(temperature**2 * theirs, abs=error)
    assert int(ours.count) == ROWS


@settings(deadline=None)
@given(seeds, temperatures)
def test_the_gradient_is_the_difference_of_probabilities_times_the_temperature(seed: int, temperature: float) -> None:
    """∂/∂logits of T² KL at T is T (p_student - p_teacher), both at T."""
    student, teacher = logits(seed).requires_grad_(), logits(seed + 1).requires_grad_()
    distillation(student, FullTeacher(teacher), ALL, temperature=temperature).total.backward()
    assert student.grad is not None and teacher.grad is None
    for row, s, t in zip(fp64(student.grad), fp64(student), fp64(teacher), strict=True):
        assert row == pytest.approx(temperature * (softmax(s, temperature) - softmax(t, temperature)), abs=16 * 2**-19)


def test_at_a_high_temperature_gradients_are_those_of_the_squared_difference_of_logits() -> None:
    """Hinton et al. §2.1: T² KL → Σ (z - v)² / 2V for logits of mean zero. What the factor T² is for."""
    student, teacher = (x - x.mean(-1, keepdim=True) for x in (logits(1), logits(2)))
    student.requires_grad_()
    distillation(student, FullTeacher(teacher), ALL, temperature=1000.0).total.backward()
    assert student.grad is not None
    assert torch.allclose(student.grad, (student - teacher) / VOCABULARY, rtol=0.02, atol=1e-3)  # fp32: 1000 · (p - q), each 2^-24


@settings(deadline=None)
@given(seeds, betas, st.sampled_from(TAILS))
def test_a_stored_teacher_is_compared_over_its_tokens_and_the_rest(seed: int, beta: float, mode: Tail) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    stored = top_k(teacher, mode)
    theirs = 0.0
    for s, t, ids in zip(fp64(student), fp64(teacher), stored.ids.long().numpy(), strict=True):
        kept = merged(softmax(t), ids)
        if mode == "zero":
            kept[-1] = 0
            kept /= kept.sum()
        theirs += jsd(merged(softmax(s), ids), kept, beta)
    assert distillation(student, stored, ALL, divergence=divergence(beta)).total.item() == pytest.approx(theirs, abs=ROWS * ROW_ERROR)


@settings(deadline=None)
@given(seeds, temperatures)
def test_a_rest_that_is_uniform_is_tempered_exactly(seed: int, temperature: float) -> None:
    """Where both say every other token equally often, `symmetric_uniform` is the divergence over all tokens, at every temperature."""
    student, teacher = logits(seed), logits(seed + 1)
    student[:, TOP:], teacher[:, TOP:] = student[:, TOP:].min(-1, keepdim=True).values, teacher.min(-1, keepdim=True).values
    everything = teacher.double().log_softmax(-1)
    stored = TopKTeacher(
        torch.arange(TOP).int().expand(ROWS, -1), everything[:, :TOP].float(), everything[:, TOP:].logsumexp(-1).float(), "symmetric_uniform"
    )
    ours = distillation(student, stored, ALL, temperature=temperature).total
    assert float(ours) == pytest.approx(
        distillation(student, FullTeacher(teacher), ALL, temperature=temperature).total.item(), abs=ROWS * 64 * ROW_ERROR
    )


@settings(deadline=None)
@given(seeds, st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.integers(1, VOCABULARY))
def test_the_rest_as_one_class_is_a_lower_bound(seed: int, beta: float, k: int) -> None:
    """The data-processing inequality; with all tokens stored it is the divergence itself."""
    student, teacher = logits(seed), logits(seed + 1)
    bound = distillation(student, top_k(teacher, "bucket", k), ALL, divergence=divergence(beta)).total.item()
    full = distillation(student, FullTeacher(teacher), ALL, divergence=divergence(beta)).total.item()
    assert bound <= full + ROWS * ROW_ERROR
    assert k < VOCABULARY or bound == pytest.approx(full, abs=ROWS * ROW_ERROR)


@settings(deadline=None)
@given(seeds, temperatures, st.sampled_from(["bucket", "symmetric_uniform"]))
def test_a_stored_teacher_that_agrees_asks_for_nothing(seed: int, temperature: float, mode: Tail) -> None:
    student = logits(seed).requires_grad_()
    loss = distillation(student, top_k(student.detach(), mode), ALL, temperature=temperature)
    assert loss.total.item() == pytest.approx(0, abs=ROWS * 16 * ROW_ERROR)
    loss.total.backward()
    assert student.grad is not None and student.grad.abs().max() < 1e-3


def test_half_precision_costs_half_a_permille() -> None:
    """fp16 log-probabilities are off by 2^-11 of their size (≤ 16 here: 0.008), and a divergence is a mean of them."""
    student, teacher = logits(5), logits(6)
    whole = distillation(student, top_k(teacher, "bucket"), ALL).total
    assert distillation(student, top_k(teacher, "bucket", dtype=torch.float16), ALL).total.item() == pytest.approx(float(whole), abs=ROWS * 0.008)


def test_a_rest_is_summed_and_not_what_one_lacks_to_1() -> None:
    """1 - p is 0 in fp32 where the others have e^-30 together; their logsumexp is not."""
    scores = torch.tensor([[0.0, -30.0, -31.0]])
    assert coarse(scores, torch.tensor([[0]]))[0, 1].item() == pytest.approx(-30 + math.log1p(math.exp(-1)), abs=1e-5)


@settings(deadline=None)
@given(seeds, st.integers(1, ROWS + 1), st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
def test_chunks_and_hidden_states_change_nothing_but_the_order_of_a_sum(seed: int, chunk: int, marks: list[bool]) -> None:
    supervised = torch.tensor(marks)
    weight, rows = torch.randn(VOCABULARY, 3, generator=torch.Generator().manual_seed(seed)), logits(seed, ROWS, 3)
    teacher = top_k(logits(seed + 1), "bucket")

    def outcome(student: torch.Tensor, head: Head) -> tuple[float, torch.Tensor]:
        leaf = rows.clone().requires_grad_()
        distillation(leaf if head.weight is not None else leaf @ weight.T, teacher, supervised, temperature=2.0, head=head).total.backward()
        assert leaf.grad is not None
        return distillation(student, teacher, supervised, temperature=2.0, head=head).total.item(), leaf.grad

    once = outcome(rows @ weight.T, Head())
    for head, student in ((Head(chunk=chunk), rows @ weight.T), (Head(weight, chunk=chunk), rows)):
        total, gradient = outcome(student, head)
        assert total == pytest.approx(once[0], abs=16 * ROWS * ROW_ERROR)
        assert torch.allclose(gradient, once[1], atol=16 * ROWS * ROW_ERROR)
        assert not gradient[~supervised].any()


def test_tokens_that_are_not_supervised_may_hold_anything() -> None:
    """Prompts, slots and padding: neither value nor gradient sees them, not even a NaN."""
    student, teacher = logits(1), logits(2)
    supervised = torch.tensor([True, False, True, False, False])
    alone = distillation(student[supervised], FullTeacher(teacher[supervised]), ALL[supervised])
    student[~supervised], teacher[~supervised] = math.nan, math.nan
    student.requires_grad_()
    ours = distillation(student, FullTeacher(teacher), supervised)
    assert torch.equal(ours.total, alone.total) and int(ours.count) == 2
    ours.total.backward()
    assert student.grad is not None and student.grad.isfinite().all() and not student.grad[~supervised].any()


def test_nothing_supervised_is_a_zero_that_has_a_gradient() -> None:
    student = logits(1).requires_grad_()
    loss = distillation(student, FullTeacher(logits(2)), ~ALL)
    loss.total.backward()
    assert (loss.total.item(), int(loss.count)) == (0, 0)
    assert student.grad is not None and not student.grad.any()


def test_padded_columns_take_no_part_however_many_each_has() -> None:
    student, teacher = logits(1), logits(2)
    wide, wider = (torch.cat([x, torch.full((ROWS, n), 50.0)], -1) for x, n in ((student, 3), (teacher, 7)))
    plain = distillation(student, FullTeacher(teacher), ALL).total
    padded = distillation(wide, FullTeacher(wider, Head(vocabulary=VOCABULARY)), ALL, head=Head(vocabulary=VOCABULARY))
    assert torch.equal(padded.total, plain)
    with pytest.raises(ValueError, match=f"teacher has {VOCABULARY + 7} tokens, student has {VOCABULARY + 3}"):
        distillation(wide, FullTeacher(wider), ALL)
    with pytest.raises(ValueError, match="logits have 12 columns"):
        distillation(student, FullTeacher(teacher), ALL, head=Head(vocabulary=13))


def test_what_has_no_value_is_refused() -> None:
    student, stored = logits(1), top_k(logits(2), "zero")
    with pytest.raises(ValueError, match="reverse KL is infinite"):
        distillation(student, stored, ALL, divergence=reverse_kl)
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature is"):
            distillation(student, stored, ALL, temperature=temperature)
    with pytest.raises(ValueError, match="rows of"):
        distillation(student, FullTeacher(logits(2, ROWS - 1)), ALL)


def test_descent_finds_the_teacher() -> None:
    """By its stored top 4 of 12 alone, a free student comes to the same top 4 and the same rest."""
    teacher = logits(9)
    stored = top_k(teacher, "bucket")
    student = torch.zeros(ROWS, VOCABULARY, requires_grad=True)
    optimizer = torch.optim.LBFGS([student], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = distillation(student, stored, ALL).total
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    for s, t, ids in zip(fp64(student), fp64(teacher), stored.ids.long().numpy(), strict=True):
        assert kl(merged(softmax(t), ids), merged(softmax(s), ids)) < 1e-4
