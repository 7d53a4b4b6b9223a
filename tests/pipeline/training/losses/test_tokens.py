"""Cross-entropy on labels, at the halt head and at slots: sums and counts that add up to the mean of a whole step."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from fakes.plain_losses import ROW_ERROR, softmax
from fakes.teachings import ROWS, VOCABULARY, fp64, logits, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.losses.rows import Head
from pipeline.training.losses.sums import IGNORED, LossParts
from pipeline.training.losses.tokens import cross_entropy, halt_loss, step_loss

pytestmark = pytest.mark.train

labels = st.lists(st.sampled_from([IGNORED, *range(VOCABULARY)]), min_size=ROWS, max_size=ROWS).map(torch.tensor)


@settings(deadline=None)
@given(seeds, labels, st.integers(1, ROWS + 1))
def test_it_is_the_sum_of_minus_log_p_and_its_gradient(seed: int, wanted: torch.Tensor, chunk: int) -> None:
    student = logits(seed).requires_grad_()
    loss = cross_entropy(student, wanted, Head(chunk=chunk))
    loss.total.backward()
    assert student.grad is not None
    supervised = [i for i in range(ROWS) if wanted[i] != IGNORED]
    assert loss.total.item() == pytest.approx(-sum(math.log(softmax(fp64(student)[i])[wanted[i]]) for i in supervised), abs=ROWS * ROW_ERROR)
    assert int(loss.count) == len(supervised)
    for i in range(ROWS):
        expected = softmax(fp64(student)[i]) - F.one_hot(wanted[i], VOCABULARY).numpy() if i in supervised else [0.0] * VOCABULARY
        assert fp64(student.grad)[i] == pytest.approx(expected, abs=ROW_ERROR)


def test_bf16_rows_are_summed_in_fp32() -> None:
    """4,096 equal losses of ln 12: a bf16 sum would stop growing at 256 units of its last place."""
    loss = cross_entropy(torch.zeros(4096, VOCABULARY, dtype=torch.bfloat16), torch.zeros(4096, dtype=torch.long), Head(chunk=100))
    assert loss.total.dtype == torch.float32
    assert loss.total.item() == pytest.approx(4096 * math.log(VOCABULARY), rel=1e-6)


def test_logits_of_one_chunk_exist_at_a_time() -> None:
    """What the graph keeps for the backward pass: hidden states and no logits (unless there is one chunk only)."""
    weight, hidden = torch.randn(VOCABULARY, 3), torch.randn(64, 3, requires_grad=True)

    def largest(head: Head) -> int:
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):  # type: ignore[func-returns-value]
            cross_entropy(hidden, torch.zeros(64, dtype=torch.long), head)
        return max(kept)

    assert largest(Head(weight)) == 64 * VOCABULARY
    assert largest(Head(weight, chunk=8)) < 64 * VOCABULARY / 2


def test_an_untrained_halt_head_loses_ln_2() -> None:
    loss = halt_loss(torch.zeros(4, 2), torch.tensor([0, 1, IGNORED, 1]))
    assert (loss.total.item(), int(loss.count)) == (pytest.approx(3 * math.log(2)), 3)
    assert halt_loss(torch.tensor([[0.0, 5.0]]), torch.tensor([1])).total.item() == pytest.approx(math.log1p(math.exp(-5)))
    with pytest.raises(ValueError, match="3 columns"):
        halt_loss(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))


def test_a_slot_is_asked_for_its_step_and_teaches_head_and_state() -> None:
    weight, latents = torch.randn(VOCABULARY, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    targets = torch.tensor([3, IGNORED, 7, 1])
    loss = step_loss(latents, targets, Head(weight))
    assert loss.total.item() == pytest.approx(F.cross_entropy(latents @ weight.T, targets, reduction="sum").item(), abs=4 * ROW_ERROR)
    loss.total.backward()
    assert weight.grad is not None and weight.grad.any() and latents.grad is not None and not latents.grad[1].any()
    with pytest.raises(ValueError, match="weight of the LM head"):
        step_loss(latents, targets, Head())


@settings(deadline=None)
@given(seeds, st.lists(labels, min_size=1, max_size=4))
def test_micro_batches_add_up_to_the_step(seed: int, batches: list[torch.Tensor]) -> None:
    """Objectives of the micro batches, each with the counts of the step, sum to that of the whole batch: value and gradient. Their means do not."""
    weights = {"ce": 0.5, "halt": 0.2}
    student = logits(seed, ROWS * len(batches)).requires_grad_()
    whole = torch.cat(batches)

    def parts(rows: torch.Tensor, wanted: torch.Tensor) -> LossParts:
        halts = torch.where(wanted == IGNORED, wanted, wanted % 2)
        return LossParts({"ce": cross_entropy(rows, wanted), "halt": halt_loss(rows[:, :2], halts)}, weights)

    step = parts(student, whole)
    (expected,) = torch.autograd.grad(step.objective(), student)
    counts = {name: part.count for name, part in step.sums.items()}
    pieces = [parts(rows, wanted) for rows, wanted in zip(student.split(ROWS), batches, strict=True)]
    for piece in pieces:
        piece.objective(counts).backward(retain_graph=True)
    assert student.grad is not None and torch.allclose(student.grad, expected, atol=ROW_ERROR)
    assert (pieces[0] if len(pieces) == 1 else sum(pieces[1:], pieces[0])).means() == pytest.approx(step.means(), abs=ROWS * ROW_ERROR)


def test_parts_are_weighed_by_name() -> None:
    ce, halt = cross_entropy(torch.zeros(2, 4), torch.tensor([1, 2])), halt_loss(torch.zeros(3, 2), torch.tensor([0, 1, IGNORED]))
    parts = LossParts({"ce": ce, "halt": halt}, {"ce": 0.5, "halt": 0.2, "kl": 0.5})
    assert parts.objective().item() == pytest.approx(0.5 * math.log(4) + 0.2 * math.log(2))
    assert parts.objective({"ce": 4, "halt": 2}).item() == pytest.approx(0.25 * math.log(4) + 0.2 * math.log(2))
    assert (parts + LossParts({"kl": ce}, {"kl": 0.5})).objective().item() == pytest.approx(math.log(4) + 0.2 * math.log(2))
    with pytest.raises(ValueError, match="'halt' has no weight"):
        LossParts({"ce": ce, "halt": halt}, {"ce": 0.5})
    with pytest.raises(ValueError, match=r"weighs 0\.5 and 0\.4"):
        parts + LossParts({}, {"ce": 0.4})


def test_a_part_without_tokens_adds_nothing_and_keeps_its_graph() -> None:
    student = torch.zeros(2, 4, requires_grad=True)
    parts = LossParts({"ce": cross_entropy(student, torch.tensor([IGNORED, IGNORED]))}, {"ce": 1.0})
    parts.objective().backward()
    assert student.grad is not None and not student.grad.any()
    assert parts.means() == {}
