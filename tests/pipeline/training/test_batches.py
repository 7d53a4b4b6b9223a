"""Which rows a step sees, and how many of their steps become slots."""

from __future__ import annotations

import random
from collections import Counter

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.trainings import rows, settings
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.batches import Batches, shares
from pipeline.training.curriculum import Curriculum
from pipeline.training.schedule import learning_rate

pytestmark = pytest.mark.train


@given(count=st.integers(1, 90), size=st.integers(1, 16), seed=st.integers(0, 5), kinds=st.sampled_from([(1,), (1, 2), (0, 1, 2, 3)]))
def test_an_epoch_has_no_row_twice_and_leaves_out_less_than_a_batch_of_each_kind(count: int, size: int, seed: int, kinds: tuple[int, ...]) -> None:
    every = rows(count, steps=kinds)
    batches = Batches(every, size, seed)
    seen = Counter(row.id for step in range(batches.per_epoch) for row in batches.at(step))
    assert max(seen.values()) == 1
    if count >= size * len(kinds):
        assert count - len(seen) < size * len(kinds)
    for step in range(3 * batches.per_epoch):
        assert len({len(row.steps) for row in batches.at(step)}) == 1


def test_a_batch_follows_from_seed_and_step_alone() -> None:
    every = rows(64)
    there, back = Batches(every, 8, 3), Batches(every, 8, 3)
    asked = [40, 3, 17, 0, 3]
    assert [there.at(step) for step in asked] == [back.at(step) for step in reversed(asked)][::-1]
    assert [there.chance(step).random() for step in asked] == [back.chance(step).random() for step in asked]
    other = Batches(every, 8, 4)
    assert [there.at(step) for step in range(7)] != [other.at(step) for step in range(7)]
    assert [row.id for row in there.at(0)] != [row.id for row in there.at(there.per_epoch)]


@given(size=st.integers(1, 20), micro=st.integers(1, 20), ranks=st.integers(1, 4))
def test_ranks_and_micro_batches_share_a_batch(size: int, micro: int, ranks: int) -> None:
    batch = rows(size)
    parts = [shares(batch, micro, rank, ranks) for rank in range(ranks)]
    assert sorted(row.id for own in parts for part in own for row in part) == sorted(row.id for row in batch)
    assert all(len(part) <= micro for own in parts for part in own)
    assert max(sum(map(len, own)) for own in parts) - min(sum(map(len, own)) for own in parts) <= 1


def test_the_mixture_grows_towards_whole_spans() -> None:
    curriculum = Curriculum("mixture", text=0.25, whole=0.7)
    draw = random.Random(0)
    counts = {progress: Counter(curriculum.replaced(4, progress, draw) for _ in range(20_000)) for progress in (0.0, 0.5, 1.0)}
    for progress, found in counts.items():
        whole = min(0.7, progress)
        even = 0.75 * (1 - whole) / 5
        expected = {0: 0.25 + even, 1: even, 2: even, 3: even, 4: even + 0.75 * whole}
        for steps, share in expected.items():
            # five standard deviations of a share of 20,000
            assert found[steps] / 20_000 == pytest.approx(share, abs=5 * (share * (1 - share) / 20_000) ** 0.5)


def test_stages_replace_one_step_more_at_a_time() -> None:
    curriculum = Curriculum("staged", stages=3)
    draw = random.Random(0)
    assert [curriculum.replaced(9, progress / 8, draw) for progress in range(9)] == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert curriculum.replaced(2, 1.0, draw) == 2
    mixed = Counter(Curriculum("staged", stages=3, mixed=0.5).replaced(9, 0.99, draw) for _ in range(8000))
    assert mixed[3] / 8000 == pytest.approx(0.5 + 0.5 / 4, abs=0.03) and all(mixed[stage] for stage in range(3))


def test_the_learning_rate_is_that_of_torch() -> None:
    """torch's own CosineAnnealingLR and LinearLR, stepped one after the other's rule."""
    chosen = settings(steps=40, warmup=0, lr=0.3, lr_floor=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.03)
    for step in range(40):
        assert learning_rate(chosen, step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()


def test_warm_up_and_the_fall_of_wsd() -> None:
    chosen = settings(steps=100, warmup=10, lr=1.0, lr_floor=0.0, schedule="wsd")
    rates = [learning_rate(chosen, step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:81] == pytest.approx([1.0] * 71)
    assert rates[90] == pytest.approx(0.5) and rates[99] == pytest.approx(0.05)
    assert {learning_rate(settings(steps=100, warmup=0, schedule="constant", lr=0.2), step) for step in range(100)} == {0.2}
