"""A training with a teacher: the loss is at the tokens that the teacher said, and stage `train` learns from what stage `teach` made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
import torch
import torch.nn.functional as F
from fakes.datasets import made
from fakes.teachers import small_teacher, taught
from fakes.trainings import SPECIAL, data, rows, settings, trained
from pydantic import ValidationError

from interlock.contracts import io
from interlock.contracts.checkpoint import CheckpointContract
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline import recipe
from pipeline.driver import stage
from pipeline.driver.graph import Given, build_graph
from pipeline.stages import train
from pipeline.training import on_policy, step
from pipeline.training.batches import shares
from pipeline.training.examples import Example
from pipeline.training.loop import fit
from pipeline.training.losses.teachers import TopKTeacher, stacked
from pipeline.training.objective import text_loss
from pipeline.training.ranks import Ranks
from pipeline.training.settings import Distillation
from pipeline.training.told import LOG
from runtime.student.model import Student

pytestmark = pytest.mark.train


def with_teacher(teacher: Student, batch: list[Example], k: int = 4) -> list[Example]:
    """The same rows without steps, with what `teacher` thinks of each answer, by one pass over each row alone."""
    found = []
    for row in batch:
        logits = teacher(torch.tensor([[*row.prompt, *row.answer]])).logits[0, len(row.prompt) - 1 : -1]
        everything = logits.detach().log_softmax(-1)
        best = everything.topk(k, -1)
        rest = everything.scatter(-1, best.indices, -torch.inf).logsumexp(-1)
        found.append(Example(row.id, row.prompt, (), row.answer, TopKTeacher(best.indices.int(), best.values.half(), rest, "bucket")))
    return found


def test_the_loss_is_zero_for_the_teacher_itself_and_at_each_of_its_tokens() -> None:
    """Rows of different lengths, some without a teacher: positions that were off by one would not agree."""
    chosen = settings(latent=None)
    teacher, other = trained(chosen, seed=5).student.eval(), trained(chosen, seed=6).student.eval()
    batch = rows(6, steps=(0,), lengths=(3, 5, 7))
    mixed = [*with_teacher(teacher, batch[:4]), *batch[4:]]
    with torch.no_grad():
        own, others = (text_loss(one, mixed, SPECIAL, Distillation(temperature=1.0)) for one in (teacher, other))
        alone = [text_loss(other, [row], SPECIAL, Distillation(temperature=1.0))["kl"].total.item() for row in mixed[:4]]
    assert own["kl"].count.item() == 4 * 2 and own["kl"].total.item() < 8 * 1e-3  # fp16 log-probabilities
    assert others["kl"].total.item() == pytest.approx(sum(alone), rel=1e-4) and others["kl"].total.item() > 0.1
    assert "kl" not in text_loss(teacher, mixed, SPECIAL) and "kl" not in text_loss(teacher, batch, SPECIAL, Distillation())


@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_with_and_without_a_teacher_are_one_batch(micro: int) -> None:
    chosen = settings(latent=None, clip=1e6, weights={"ce": 0.5, "kl": 0.5})
    batch = rows(8, steps=(0,), lengths=(3, 5))
    teacher = trained(chosen, seed=5).student.eval()
    mixed = [*with_teacher(teacher, batch[:3]), *batch[3:]]

    def taken(size: int) -> tuple[torch.Tensor, step.Made]:
        student = trained(chosen)
        optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
        found = step.take(student, optimizer, shares(mixed, size), 0, chosen, Ranks(), "step 1")
        return torch.cat([one.detach().flatten() for one in student.parameters()]), found

    (whole, of_whole), (parts, of_parts) = taken(8), taken(micro)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert of_parts.losses == pytest.approx(of_whole.losses, rel=1e-5) and set(of_whole.losses) == {"ce", "kl"}


def test_captures_of_two_modes_do_not_mix() -> None:
    one = TopKTeacher(torch.zeros(1, 2).int(), torch.zeros(1, 2), torch.zeros(1), "bucket")
    with pytest.raises(ValueError, match="modes"):
        stacked([one, TopKTeacher(one.ids, one.logprobs, one.tail, "zero")])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    for name, seed in (("teacher", 0), ("student", 1)):
        small_teacher(folder / name, seed)
    made(folder / "data", "permutation-automaton", train=16, validation=6, test=6)
    taught(folder / "taught", folder / "data", str(folder / "teacher"), top_k=8, max_new_tokens=6)
    return folder


def learnt(place: Path, out: Path, dataset: str, **others: Any) -> CheckpointContract:
    chosen = settings(latent=None, steps=30, batch=8, lr=3e-3, evaluate_every=30, weights={"ce": 0.0, "kl": 1.0}, **others)
    params = train.Params(dataset=place / dataset, start=place / "student", out=out, settings=chosen)
    contract = stage.run(train.STAGE, params, SilentVoice(), source="1" * 64).contract
    assert isinstance(contract, CheckpointContract)
    return contract


def test_stage_train_learns_what_stage_teach_wrote(place: Path, tmp_path: Path) -> None:
    contract = learnt(place, tmp_path / "out", "taught")
    assert contract.training is not None and contract.training.losses == {"kl": 1.0}
    log = [json.loads(line) for line in (tmp_path / "out" / LOG).read_text().splitlines()]
    assert log[-1]["losses"]["kl"] < log[0]["losses"]["kl"] / 2
    assert io.read_artifact(tmp_path / "out", CheckpointContract).digest == contract.digest


def test_a_dataset_without_a_teacher_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="log-probabilities of a teacher, found none") as refused:
        learnt(place, tmp_path / "out", "data")
    assert "interlock data teach" in refused.value.remedy


def test_a_teacher_that_is_there_thinks_what_one_pass_over_a_row_thinks() -> None:
    """Rows of several lengths, some at a time, in words; a vocabulary below the cut is compared whole, so forward KL is that of full logits."""
    teacher, student = trained(settings(latent=None), seed=5).student.eval(), trained(settings(latent=None), seed=6).student.eval()
    batch = rows(5, steps=(0, 1, 2), lengths=(3, 6))
    seen = on_policy.scored(teacher, batch, SPECIAL, 2)
    assert [(row.prompt, row.steps, row.answer) for row in seen] == [(row.prompt, (), row.tail(0)) for row in batch]
    with torch.no_grad():
        ours = text_loss(student, seen, SPECIAL, Distillation(temperature=3.0))["kl"].total.item()
        theirs = 0.0
        for row in batch:
            ids, first = torch.tensor([[*row.prompt, *row.tail(0)]]), len(row.prompt) - 1
            s, t = ((one(ids).logits[0, first:-1] / 3).log_softmax(-1) for one in (student, teacher))
            theirs += 9 * F.kl_div(s, t, reduction="sum", log_target=True).item()
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_own_answers_are_drawn_from_the_student_and_end_where_it_ends() -> None:
    """800 first tokens after one prompt against the student's probabilities (chi-square, 99.99 % of 9 degrees of freedom); nothing after an end."""
    student = trained(settings(latent=None), vocab_size=10).student.eval()
    row = Example("x", (4, 5, 6), (), (7, 8, 9, 3))
    said = on_policy.own_answers(student, [row] * 800, SPECIAL, seed=1)
    assert all(one.own and one.prompt == row.prompt and 1 <= len(one.answer) <= 4 for one in said)
    assert all(3 not in one.answer[:-1] and (len(one.answer) == 4 or one.answer[-1] == 3) for one in said)
    with torch.no_grad():
        expected = 800 * student(torch.tensor([row.prompt])).logits[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor([one.answer[0] for one in said]), minlength=10)
    assert ((counts - expected) ** 2 / expected).sum().item() < 33.72
    again, other = (on_policy.own_answers(student, [row] * 800, SPECIAL, seed=seed) for seed in (1, 2))
    assert again == said != other


def test_what_the_student_said_itself_is_not_imitated() -> None:
    student = trained(settings(latent=None)).student
    batch = rows(3, steps=(0,))
    own = [Example(row.id, row.prompt, (), row.answer, own=True) for row in batch]
    assert text_loss(student, own, SPECIAL)["ce"].count.item() == 0
    assert text_loss(student, [*own, batch[0]], SPECIAL)["ce"].count.item() == 2


def test_a_share_of_the_batches_is_the_students_own() -> None:
    half = settings(latent=None, weights={"kl": 1.0}, distillation={"on_policy": 0.5})
    chosen = [on_policy.is_own(half, number) for number in range(2000)]
    assert 900 < sum(chosen) < 1100  # four standard deviations are 90
    assert chosen == [on_policy.is_own(half, number) for number in range(2000)]
    none = settings(latent=None, weights={"kl": 1.0})
    assert not any(on_policy.is_own(none, number) for number in range(100))


def test_a_small_student_from_scratch_learns_from_a_teacher_that_is_there(place: Path, tmp_path: Path) -> None:
    """On rows without a teacher, half of the batches its own answers: it takes the teacher's tokenizer, names it, and comes nearer to it."""
    chosen = settings(
        latent=None, steps=30, batch=8, lr=3e-3, evaluate_every=30, weights={"ce": 0.0, "kl": 1.0}, distillation={"on_policy": 0.5, "beta": 0.5}
    )
    small = train.Scratch(d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, d_head=16, d_ff=48)
    params = train.Params(dataset=place / "data", scratch=small, teacher=place / "teacher", out=tmp_path / "out", settings=chosen)
    contract = stage.run(train.STAGE, params, SilentVoice(), source="1" * 64).contract
    teacher = io.read_artifact(place / "teacher", CheckpointContract)
    assert isinstance(contract, CheckpointContract) and teacher.tokenizer is not None and contract.tokenizer is not None
    assert contract.tokenizer.sha256 == teacher.tokenizer.sha256 and contract.arch.vocab_size == teacher.arch.vocab_size
    assert ("checkpoint", teacher.digest) in [(one.kind, one.digest) for one in contract.inputs]
    lines = [json.loads(line)["losses"] for line in (tmp_path / "out" / LOG).read_text().splitlines()]
    assert sum(one["kl"] for one in lines[-5:]) < sum(one["kl"] for one in lines[:5]) / 2
    assert sum("ce" not in one for one in lines) == sum(on_policy.is_own(chosen, number) for number in range(30))


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({"weights": {"kl": 0.0}}, "whose weight is 0"),
        ({"weights": {"kl": 0.0}, "distillation": {"on_policy": 0.5}}, "no loss but `kl`"),
        ({"weights": {"kl": 1.0}, "distillation": {"on_policy": 0.5}, "teacher": None}, "needs a teacher that is there"),
    ],
)
def test_a_teacher_without_a_use_is_refused(place: Path, tmp_path: Path, others: dict[str, Any], told: str) -> None:
    teacher = others.pop("teacher", place / "teacher")
    with pytest.raises(ValidationError, match=told):
        train.Params(dataset=place / "data", start=place / "student", teacher=teacher, out=tmp_path / "out", settings=settings(latent=None, **others))


def test_own_answers_are_the_same_after_a_kill(tmp_path: Path) -> None:
    """They are drawn anew from the weights of that moment, by seed and step: what goes on ends with the bytes of what was not killed."""
    chosen = settings(latent=None, steps=8, save_every=3, weights={"ce": 0.5, "kl": 0.5}, distillation={"on_policy": 0.5})
    teacher = trained(settings(latent=None), seed=5).student.eval()

    def run(folder: Path | None, kill_at: int | None = None) -> list[torch.Tensor]:
        student = trained(chosen)

        def tell(line: dict[str, Any], tokens: int) -> None:
            if line["step"] == kill_at:
                raise KeyboardInterrupt

        fit(student, replace(data(), teacher=teacher), chosen, folder, Ranks(), tell)
        return [one.detach().clone() for one in student.parameters()]

    whole = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, kill_at=5)
    assert all(torch.equal(a, b) for a, b in zip(whole, run(tmp_path), strict=True))


def test_a_recipe_names_its_teacher(place: Path) -> None:
    sets = [f'data={{"path" = "{place / "taught"}"}}', f'train.teacher="{place / "teacher"}"', "train.weights.kl=1.0", "train.distillation.beta=0.5"]
    (target,) = build_graph(recipe.load("toy", sets), None).targets
    node = target.steps["train"]
    assert node.inputs["teacher"] == Given(place / "teacher", "checkpoint") and node.inputs["dataset"] == Given(place / "taught", "dataset")
    assert "teacher" not in node.params["settings"] and node.params["settings"]["distillation"]["beta"] == 0.5
