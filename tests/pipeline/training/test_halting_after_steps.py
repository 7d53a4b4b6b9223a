"""Where the halt head is asked: after whole steps, in training, in its figures, and in the token loop that runs what was trained."""

from __future__ import annotations

import pytest

pytest.importorskip("tokenizers")
import torch
import torch.nn.functional as F
from fakes.byte_tokenizer import byte_tokenizer
from fakes.trainings import LATENT, SPECIAL, rows, settings, trained

from pipeline.training import evaluation, objective
from pipeline.training.latent import run_span
from runtime.backends.eager import eager_from
from runtime.engine.generate import generate
from runtime.engine.latent import LatentParams
from runtime.engine.turn import GenerationParams

pytestmark = pytest.mark.train
MOST = 6


@pytest.mark.parametrize("slots_per_step", [1, 2, 3])
def test_the_loss_is_that_of_the_last_slots_of_steps(slots_per_step: int) -> None:
    made = trained(settings())
    batch = rows(6, steps=(2, 3))
    options = objective.LatentOptions(slots_per_step, True, None)
    found = objective.latent_loss(made.student, batch, SPECIAL, replaced=2, options=options)["halt"]
    span = run_span(made.student, batch, SPECIAL, replaced=2, slots_per_step=slots_per_step)
    expected = 0.0
    for number, row in enumerate(batch):
        for step in range(2):
            logits = made.student.halt(span.at[number, slots_per_step * (step + 1) - 1])
            expected += F.cross_entropy(logits, torch.tensor(int(step == 1 and len(row.steps) == 2))).item()
    assert found.total.item() == pytest.approx(expected, rel=1e-5) and found.count.item() == 12


@pytest.mark.parametrize("slots_per_step", [1, 2, 3])
def test_the_token_loop_halts_where_training_says_it_does(slots_per_step: int) -> None:
    chosen = settings(latent={**LATENT, "slots_per_step": slots_per_step})
    made = trained(chosen)
    asked = rows(8, steps=(1, 2))
    answers, _ = evaluation.self_halted(made, asked, MOST, threshold=1.0)
    assert {answer.slots for answer in answers} == {MOST}
    # thresholds between the probabilities that this student gives: spans of several lengths
    seen = sorted(p for answer in answers for p in answer.halts)
    backend, tokenizer = eager_from(made.student), byte_tokenizer()
    lengths = set()
    for threshold in (seen[len(seen) // 2], seen[-3]):
        answers, _ = evaluation.self_halted(made, asked, MOST, threshold)
        for row, answer in zip(asked, answers, strict=True):
            latent = LatentParams(
                SPECIAL.bot or 0, SPECIAL.eot or 0, 1, MOST, slots_per_step=slots_per_step, halt_threshold=threshold - 1e-6,
            )  # fmt: skip
            ran = generate(backend, tokenizer, row.prompt, GenerationParams(max_new_tokens=MOST + 2, latent=latent))
            assert ran.latent is not None and ran.latent.spans[0].slots == answer.slots
            assert answer.slots % slots_per_step == 0
            lengths.add(answer.slots)
    assert len(lengths) > 1
