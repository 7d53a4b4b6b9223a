"""One optimizer step against a plain one, however the batch is cut, and what becomes of numbers that are none."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("tokenizers")
import torch
import torch.nn.functional as F
from fakes.trainings import LATENT, rows, settings, trained
from torch import Tensor

from interlock.errors import StageFailed, UsageError
from pipeline.training import step
from pipeline.training.batches import shares
from pipeline.training.model import Trained
from pipeline.training.ranks import Ranks
from pipeline.training.settings import Settings

pytestmark = pytest.mark.train


def weights(of: Trained) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in of.named_parameters()}


def taken(
    chosen: Settings, micro: int, replaced: int, *, control: str | None = None, lengths: tuple[int, ...] = (3, 5)
) -> tuple[dict[str, Tensor], step.Made]:
    """A student after one step of plain gradient descent, so that an update is the gradient: Adam would divide its size away."""
    student = trained(chosen, control=control)
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    made = step.take(student, optimizer, shares(rows(8, steps=(2,), lengths=lengths), micro), replaced, chosen, Ranks(), "step 1")
    return weights(student), made


@pytest.mark.parametrize("replaced", [0, 1, 2])
@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_are_one_batch(micro: int, replaced: int) -> None:
    """Rows differ in length: a mean of the micro batches' means would be another gradient."""
    chosen = settings(clip=1e6)
    (whole, of_whole), (parts, of_parts) = taken(chosen, 8, replaced), taken(chosen, micro, replaced)
    for name, weight in whole.items():
        assert torch.allclose(weight, parts[name], atol=1e-5), name
    assert of_parts.losses == pytest.approx(of_whole.losses, rel=1e-5) and of_parts.norm == pytest.approx(of_whole.norm, rel=1e-4)


def test_text_is_learnt_as_a_plain_loop_learns_it() -> None:
    """Written without any module of training: ids, shifted labels, torch's own mean over what is no prompt."""
    chosen = settings(latent=None, clip=1e6)
    found, made = taken(chosen, 8, 0, lengths=(4,))
    plain = trained(chosen).student
    batch = rows(8, steps=(2,), lengths=(4,))
    ids = torch.tensor([[*row.prompt, *(token for one in row.steps for token in one), *row.answer] for row in batch])
    logits = plain.logits(plain.hidden(ids[:, :-1]))
    loss = F.cross_entropy(logits[:, 3:].flatten(0, 1), ids[:, 4:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    assert made.total == pytest.approx(loss.item(), rel=1e-5) and made.tokens == 8 * 6
    for name, parameter in plain.named_parameters():
        expected = parameter.detach() - (0 if parameter.grad is None else parameter.grad)
        assert torch.allclose(found[f"student.{name}"], expected, atol=1e-5), name


def test_every_loss_of_a_span_has_its_weight() -> None:
    names = {"ce": 1.0, "step": 0.5, "halt": 0.2}
    _, made = taken(settings(weights=names), 8, 2)
    assert made.total == pytest.approx(sum(weight * made.losses[name] for name, weight in names.items()))
    assert set(taken(settings(weights={"step": 0, "halt": 0}), 8, 2)[1].losses) == {"ce"}
    assert set(taken(settings(), 8, 2, control="pause")[1].losses) == {"ce", "step"}
    assert made.tokens == 8 * 2  # the answer and its end


def test_the_pause_control_learns_its_constant_and_the_halt_head_is_left_alone() -> None:
    chosen = settings()
    before = weights(trained(chosen, control="pause"))
    after, _ = taken(chosen, 8, 2, control="pause")
    assert not torch.equal(before["pause"], after["pause"])
    assert torch.equal(before["student.halt_head.weight"], after["student.halt_head.weight"])


@pytest.mark.parametrize("replaced", [0, 2])
def test_layers_that_are_computed_again_give_the_same_gradients_for_less_memory(replaced: int) -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept[-1] += tensor.numel()
        return tensor

    found = []
    for recompute in (False, True):
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found.append(taken(settings(recompute=recompute, clip=1e6), 8, replaced))
    (whole, of_whole), (again, of_again) = found
    assert of_again.losses == of_whole.losses and all(torch.equal(one, again[name]) for name, one in whole.items())
    assert kept[1] < 0.6 * kept[0]


def test_frozen_parts_stay_and_the_others_move() -> None:
    chosen = settings(frozen=["embed", "blocks.0", "norm_f.weight"], clip=1e6)
    before = weights(trained(chosen))
    after, _ = taken(chosen, 8, 1)
    still = {name for name, one in before.items() if torch.equal(one, after[name])}
    frozen = {name for name in before if name.startswith(("student.embed.", "student.blocks.0.", "student.norm_f."))}
    assert frozen and still == frozen
    with pytest.raises(UsageError, match=r"`blocks\.9`, which is no part") as refused:
        trained(settings(frozen=["blocks.9"]))
    assert "it has blocks, embed, halt_head, lm_head, norm_f" in refused.value.remedy
    with pytest.raises(UsageError, match="nothing is left"):
        trained(settings(frozen=["embed", "blocks", "norm_f", "lm_head", "halt_head"]))


def test_clipping_bounds_the_step() -> None:
    chosen = settings(clip=0.01)
    before = weights(trained(chosen))
    after, made = taken(chosen, 8, 1)
    assert made.norm > 0.01
    moved = torch.sqrt(sum(((after[name] - one) ** 2).sum() for name, one in before.items()))
    assert moved.item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"latent": {**LATENT, "slots_per_step": 2}}])
def test_bf16_is_close_to_fp32_and_keeps_fp32_weights(changes: dict[str, Any]) -> None:
    exact, coarse = taken(settings(**changes), 8, 1)[1], taken(settings(precision="bf16", **changes), 8, 1)
    assert all(weight.dtype == torch.float32 for weight in coarse[0].values())
    # eight bits of mantissa over two layers
    assert coarse[1].total == pytest.approx(exact.total, rel=0.02) and coarse[1].total != exact.total


def test_a_loss_that_is_no_number_changes_nothing_and_names_the_batch() -> None:
    chosen = settings()
    student = trained(chosen)
    with torch.no_grad():
        student.student.norm_f.weight[0] = float("nan")
    before = weights(student)
    optimizer = torch.optim.AdamW(student.parameters())
    with pytest.raises(StageFailed, match=r"step 7: the loss is nan.*rows row-0, row-1, row-2") as refused:
        step.take(student, optimizer, [rows(4, steps=(2,))], 1, chosen, Ranks(), "step 7")
    assert "no weight was changed" in refused.value.remedy
    assert all(torch.equal(one, before[name]) or name == "student.norm_f.weight" for name, one in weights(student).items())
    assert optimizer.state_dict()["state"] == {}
