"""The passes of training against the reference forward pass and against the decoder that runs deployed students."""

from __future__ import annotations

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.students import some_ids, tiny_student
from fakes.trainings import SPECIAL, rows
from fakes.units import one_by_one

from pipeline.training.examples import left_padded
from pipeline.training.latent import run_span
from pipeline.training.passes import Grown, run
from runtime.backends.eager import eager_from

pytestmark = pytest.mark.train

# fp32, three layers of width 48: sums of ~100 terms in other orders differ by a few ulp of values near 4
ERROR = 2e-5


@pytest.mark.parametrize("window", [None, 5])
def test_passes_in_pieces_are_one_pass(window: int | None) -> None:
    student = tiny_student(sliding_window=window)
    ids = some_ids(student.arch, 3, 17)
    cache = Grown()
    pieces = [run(student, part, cache) for part in ids.split([9, 1, 7], 1)]
    assert torch.allclose(torch.cat(pieces, 1), student.hidden(ids), atol=ERROR)


def test_padding_on_the_left_changes_nothing() -> None:
    student = tiny_student()
    prompts = [some_ids(student.arch, length, seed=length).tolist() for length in (3, 8, 5)]
    ids, padding = left_padded(prompts, 0)
    hidden = run(student, ids, Grown(), padding)
    for row, prompt in zip(hidden, prompts, strict=True):
        assert torch.allclose(row[-len(prompt) :], student.hidden(torch.tensor([prompt]))[0], atol=ERROR)


def test_what_comes_later_or_in_another_row_is_seen_by_nobody() -> None:
    student = tiny_student().requires_grad_(False)
    x = torch.randn(2, 6, 48, generator=torch.Generator().manual_seed(0)).requires_grad_()
    run(student, x, Grown())[0, 3].sum().backward()
    assert x.grad is not None and x.grad[0, :4].abs().sum(-1).gt(0).all()
    assert not x.grad[0, 4:].any() and not x.grad[1].any()


@pytest.mark.parametrize("slots_per_step", [1, 2])
@pytest.mark.parametrize("lengths", [(4,), (3, 6)])
def test_a_span_is_what_the_decoder_of_deployed_students_makes_of_it(slots_per_step: int, lengths: tuple[int, ...]) -> None:
    """Backend `eager` is written for one sequence and a cache of fixed slots: it shares no line with the passes of training."""
    student = tiny_student()
    asked = rows(5, steps=(3,), lengths=lengths)
    span = run_span(student, asked, SPECIAL, replaced=2, slots_per_step=slots_per_step)
    backend = eager_from(student)
    for number, row in enumerate(asked):
        cache = backend.new_cache()
        step = one_by_one(backend, [*row.prompt, 1], cache)
        for slot in range(2 * slots_per_step):
            assert torch.allclose(span.fed[number, slot], torch.from_numpy(step.hidden), atol=ERROR)
            step = backend.decode(step.hidden, cache)
            assert torch.allclose(span.at[number, slot], torch.from_numpy(step.hidden), atol=ERROR)
        for column, token in enumerate((2, *row.tail(2))):
            step = backend.decode(token, cache)
            assert torch.allclose(span.after[number, column], torch.from_numpy(step.hidden), atol=ERROR)


def test_gradients_reach_through_every_slot() -> None:
    """A numerical derivative of the last hidden state by the first one that is fed back. Norms are taken in fp32: their rounding over the step is
    1e-4."""
    student = tiny_student().double()
    asked = rows(1, steps=(3,))
    moved = torch.zeros(48, dtype=torch.float64, requires_grad=True)
    seen = []

    def feed(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x + moved if len(seen) == 1 else x

    def last() -> torch.Tensor:
        seen.clear()
        return run_span(student, asked, SPECIAL, replaced=3, slots_per_step=1, feed=feed).after[0, -1].sum()

    (gradient,) = torch.autograd.grad(last(), moved)
    step = 3e-3
    with torch.no_grad():
        moved[5] += step
        above = last()
        moved[5] -= 2 * step
        assert ((above - last()) / (2 * step)).item() == pytest.approx(gradient[5].item(), rel=1e-2)
    assert len(seen) == 3 and gradient.abs().max() > 0
