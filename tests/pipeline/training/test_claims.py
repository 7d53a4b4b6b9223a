"""What a training may say of itself: shares by depth, paired tests, and that spans help only where everything agrees."""

from __future__ import annotations

import random
from math import comb

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.trainings import rows, settings, trained
from hypothesis import given
from hypothesis import strategies as st

from eval.statistics.paired import mcnemar
from interlock.voice import SilentVoice
from pipeline.training import answering, claims, evaluation
from pipeline.training.answering import Answer
from pipeline.training.claims import Asked

pytestmark = pytest.mark.train

ROWS = rows(300, steps=(1, 3))


def way(name: str, right: float, seed: int = 0) -> Asked:
    draw = random.Random(f"{name} {seed}")
    return Asked(name, [Answer(draw.random() < right, (7, 8, 9), 2) for _ in ROWS])


GOOD = [way("text", 0.99), way("spans", 0.98), way("spans, self-halted", 0.5)]
BAD = [way("spans, zero", 0.2), way("spans, noise", 0.2), way("spans, shuffle", 0.2)]


def test_spans_help_only_if_every_control_and_intervention_is_worse() -> None:
    assert claims.helps(ROWS, [*GOOD, *BAD, way("control pause", 0.3)])
    assert not claims.helps(ROWS, [*GOOD, *BAD, way("control pause", 0.97)])
    assert not claims.helps(ROWS, [*GOOD, *BAD[:2], way("spans, shuffle", 0.98), way("control pause", 0.3)])
    assert not claims.helps(ROWS, [*GOOD[:1], way("spans", 0.2), *BAD, way("control pause", 0.3)])


def test_only_the_greatest_depth_decides() -> None:
    short = [Answer(True, (7, 8, 9), 2) if len(row.steps) == 1 else Answer(False, (7, 8, 9), 2) for row in ROWS]
    assert claims.helps(ROWS, [*GOOD, *BAD, Asked("control direct", short)])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_mcnemar_is_a_sign_test_over_the_pairs_that_differ(pairs: list[tuple[bool, bool]]) -> None:
    """By counting all outcomes of so many fair coins instead of adding binomials."""
    better, worse = [a for a, _ in pairs], [b for _, b in pairs]
    differ = sum(a != b for a, b in pairs)
    if differ > 14:
        return
    lead = sum(a and not b for a, b in pairs)
    outcomes = sum(bin(outcome).count("1") >= lead for outcome in range(2**differ))
    assert mcnemar(better, worse) == pytest.approx(outcomes / 2**differ)


def test_five_flips_and_none_back_are_the_fewest_that_count() -> None:
    assert mcnemar([True] * 5, [False] * 5) == pytest.approx(0.03125)
    assert mcnemar([True] * 4, [False] * 4) == pytest.approx(0.0625)
    assert mcnemar([False] * 3, [True] * 3) == 1.0
    assert comb(10, 5) / 2**10 < mcnemar([True] * 5 + [False] * 5, [False] * 5 + [True] * 5) < 0.63


def test_chosen_rows_are_as_many_of_each_depth() -> None:
    many = rows(2200, steps=(1, 1, 1, 2))
    found = claims.chosen(many)
    assert sum(len(row.steps) == 1 for row in found) == sum(len(row.steps) == 2 for row in found) == claims.ROWS_OF_A_DEPTH


def test_every_way_is_asked_of_the_same_rows() -> None:
    chosen = settings(latent={"controls": ["pause", "direct"], "step_tokens": 2})
    controls = {name: trained(chosen, control=name) for name in ("pause", "direct")}
    with SilentVoice().task("") as task:
        ways, halts = claims.asked(trained(chosen), ROWS[:40], chosen, controls, task)
    assert [one.way for one in ways] == [
        "text", "spans", "spans, self-halted", "spans, zero", "spans, noise", "spans, shuffle", "control pause", "control direct",
    ]  # fmt: skip
    assert all(len(one.answers) == 40 for one in ways)
    described = claims.training(trained(chosen), chosen, 12, ROWS[:40], ways, halts)
    assert described.latent is not None and described.latent.helps is False and described.latent.max_slots == 3
    assert described.halt is not None and described.halt.evidence["steps"] == 2.0 and set(described.accuracy["text"]) == {"1", "3"}


def test_answers_are_those_of_one_row_at_a_time() -> None:
    """Rows of other lengths and other spans beside it change no answer; the plain loop has neither cache nor batch."""
    student = trained(settings())
    asked = rows(7, steps=(1, 3), lengths=(3, 5))
    slots = [len(row.steps) for row in asked]
    for row, count, answer in zip(asked, slots, answering.in_spans(student, asked, slots), strict=True):
        x = student.student.embed(torch.tensor([[*row.prompt, 1]]))
        halts = []
        for _ in range(count):
            x = torch.cat([x, student.student.hidden(x)[:, -1:]], 1)
            halts.append(student.student.halt(student.student.hidden(x)[:, -1]).softmax(-1)[0, 1].item())
        said: list[int] = []
        x = torch.cat([x, student.student.embed(torch.tensor([[2]]))], 1)
        while len(said) < answer.tokens:
            said.append(int(student.student.logits(student.student.hidden(x)[:, -1]).argmax()))
            x = torch.cat([x, student.student.embed(torch.tensor([[said[-1]]]))], 1)
        assert answer.right == (tuple(said[-2:]) == row.answer)
        assert answer.halts == pytest.approx(halts, abs=1e-5)


def test_interventions_leave_nothing_of_a_slot() -> None:
    x = torch.randn(50, 1, 16, generator=torch.Generator().manual_seed(0)) + 2
    assert not answering.tampering("zero", 0)(x).any()
    noise = answering.tampering("noise", 0)(x)
    # 800 numbers: the mean is known to 0.035, the deviation to 0.025
    assert noise.mean().item() == pytest.approx(x.mean().item(), abs=0.15) and noise.std().item() == pytest.approx(x.std().item(), abs=0.15)
    shuffled = answering.tampering("shuffle", 0)(x)
    assert not torch.equal(shuffled, x) and torch.equal(shuffled.sort(0).values, x.sort(0).values)


def test_monitors_see_slots_that_collapse() -> None:
    """Where no block writes into the residual stream, the norm of a normed state is that state: every slot is fed what the first was."""
    asked = rows(8, steps=(3,))
    own, collapsed = trained(settings()), trained(settings())
    with torch.no_grad():
        for name, weight in collapsed.student.named_parameters():
            if name.endswith(("attn.wo.weight", "mlp.w2.weight")):
                weight.zero_()
    found, flat = (evaluation.monitors(one, asked, 1) for one in (own, collapsed))
    assert flat["cosine"] == pytest.approx(1, abs=1e-5) and found["cosine"] < 0.99
    # an embedding of width 48 has norm 1 by its initial scale, a normed state √48
    assert found["norm_ratio"] == pytest.approx(48**0.5, rel=0.1)
    assert 0 <= found["step_probe"] <= 1
