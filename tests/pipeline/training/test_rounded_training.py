"""Training under a package's rounding: forward by the rounded weights, backward as if they were exact, and an end that rounds to itself."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.trainings import SPECIAL, data, settings
from pydantic import ValidationError
from torch import Tensor

from interlock.contracts.checkpoint import ModelArch
from pipeline.coreml.compression.symmetric import fixed, stored
from pipeline.coreml.compression.touched import matrices
from pipeline.training import evaluation, step
from pipeline.training.adapters import Adapted
from pipeline.training.estimate import estimated
from pipeline.training.loop import fit
from pipeline.training.model import Trained
from pipeline.training.ranks import Ranks
from pipeline.training.settings import Settings
from runtime.student.checkpoint import random_student
from runtime.student.model import Student

pytestmark = pytest.mark.train

# A scale for a row: the coarsest form, whose loss a small student shows.
ROW: dict[str, Any] = {"method": "int4", "group": 0}


def trained(chosen: Settings, seed: int = 1) -> Trained:
    """Wide enough that every matrix of a layer is one that a package stores in another form."""
    return Trained(plain(seed), chosen, SPECIAL)


def plain(seed: int = 1) -> Student:
    from fakes.students import tiny_arch

    arch = tiny_arch(d_model=64, n_layers=1, n_heads=4, n_kv_heads=4, max_position=64, vocab_size=128)
    return random_student(arch, ModelArch(use_halt_head=True), seed)


def rounded(student: Student, group: int = 0) -> Student:
    """The student whose package would have been made without such a training."""
    with torch.no_grad():
        for one in matrices(student).values():
            one.copy_(stored(one, 4, group))
    return student


def gradients(of: Trained, chosen: Settings) -> dict[str, Tensor]:
    step.take(of, torch.optim.SGD(of.parameters(), lr=0.0), [data().train[:6:3]], 1, chosen, Ranks(), "step 1")
    return {name.replace("parametrizations.weight.original", "weight"): one.grad for name, one in of.named_parameters() if one.grad is not None}


def test_the_student_computes_with_rounded_matrices_and_learns_exact_ones() -> None:
    """Gradients are those of a plain student that has the rounded weights: the estimator passes them on as they are, for every pass of a span."""
    chosen, ids = settings(clip=1e6), torch.arange(4, 20)[None]
    under, other = trained(settings(clip=1e6, quantization=ROW)), Trained(rounded(plain()), chosen, SPECIAL)
    assert torch.equal(under.student(ids).logits, other.student(ids).logits)
    assert not torch.equal(under.student(ids).logits, plain()(ids).logits)
    found, expected = gradients(under, chosen), gradients(other, chosen)
    assert found.keys() == expected.keys() and all(torch.equal(one, expected[name]) for name, one in found.items())


@pytest.mark.parametrize("quantization", [ROW, {"method": "int4"}, {"method": "int8"}])
def test_the_end_is_what_a_package_has(quantization: dict[str, Any]) -> None:
    chosen = settings(steps=4, quantization=quantization, patience=3, ema=0.5)
    of, start = trained(chosen), plain()
    fit(of, data(), chosen, None, Ranks(), lambda *_: None)
    after = dict(of.student.named_parameters())
    assert list(after) == [name for name, _ in start.named_parameters()]
    bits, block = (8, 64) if quantization["method"] == "int8" else (4, quantization.get("group", 32))
    for name, one in matrices(of.student).items():
        assert torch.equal(stored(one, bits, block), one), name  # type: ignore[arg-type]
        assert not torch.equal(one, start.get_parameter(name)), name
    assert matrices(of.student).keys() == matrices(start).keys() and not torch.equal(after["norm_f.weight"], start.norm_f.weight)


def test_an_evaluation_is_of_the_rounded_weights() -> None:
    chosen = settings(steps=2, evaluate_every=1, latent=None, quantization=ROW)
    of = trained(chosen)
    trace = fit(of, data(), chosen, None, Ranks(), lambda *_: None)
    # the end rounds once more: a scale may be another by one step of fp16, 2⁻¹¹ of it
    assert trace.log[-1]["validation"] == pytest.approx(evaluation.losses(of, data().validation, chosen)["0"], rel=1e-3)


def test_in_four_bits_it_loses_less_than_a_plain_training() -> None:
    """The same starts, rows and order: the loss of each student as it is stored, on rows that it has learnt by heart. A scale for a row, because
    that is what such a small one shows."""
    lost: dict[str, list[float]] = {"plain": [], "under": []}
    for seed in range(3):
        for way, quantization in (("plain", None), ("under", ROW)):
            chosen = settings(steps=60, batch=20, lr=6e-3, latent=None, evaluate_every=1000, seed=seed, quantization=quantization)
            of = trained(chosen, seed)
            fit(of, data(), chosen, None, Ranks(), lambda *_: None)
            rounded(of.student)
            lost[way].append(evaluation.losses(of, data().train, chosen)["0"])
    assert all(under < plain for under, plain in zip(lost["under"], lost["plain"], strict=True)), lost
    assert fmean(lost["under"]) < 0.9 * fmean(lost["plain"]), lost


def test_an_estimate_has_the_rounded_copy_in_it() -> None:
    chosen = settings(quantization=ROW, latent=None)
    found, exact = (estimated(trained(one), data(), one, None) for one in (chosen, settings(latent=None)))
    assert found.parameters == exact.parameters and found.memory_bytes["weights"] == exact.memory_bytes["weights"]
    copies = 4 * sum(one.numel() for one in matrices(plain()).values())
    assert found.memory_bytes["activations"] - exact.memory_bytes["activations"] == pytest.approx(copies, rel=0.2)


LORA: dict[str, Any] = {"rank": 2, "targets": ["wq", "mlp"]}


def test_an_adapter_learns_within_the_rounded_weight() -> None:
    """Forward: by what a package would store for W + s · B A. Backward: a weight's gradient G, as a plain student with those weights has it, gives
    s · Bᵀ G to A and s · G Aᵀ to B."""
    chosen, ids = settings(clip=1e6), torch.arange(4, 20)[None]
    of, other = trained(settings(clip=1e6, quantization=ROW, lora=LORA)), plain()
    assert torch.equal(of.student(ids).logits, rounded(plain())(ids).logits)  # B is 0 at the start
    adapted = {name: one for name, one in of.student.named_modules() if isinstance(one, Adapted)}
    assert len(adapted) == 4
    for name, one in adapted.items():
        torch.nn.init.normal_(one.lora_B, std=0.1)
        other.get_parameter(f"{name}.weight").data += one.scale * (one.lora_B @ one.lora_A).detach()
    exact = Trained(rounded(other), chosen, SPECIAL)
    assert torch.equal(of.student(ids).logits, exact.student(ids).logits)
    found, full = gradients(of, chosen), gradients(exact, chosen)
    assert {name.rpartition(".")[2] for name in found if name.startswith("student.")} == {"lora_A", "lora_B"}
    for name, one in adapted.items():
        whole = one.scale * full[f"student.{name}.weight"]
        torch.testing.assert_close(found[f"student.{name}.lora_A"], one.lora_B.T @ whole)
        torch.testing.assert_close(found[f"student.{name}.lora_B"], whole @ one.lora_A.T)


def test_the_end_of_adapters_is_what_a_package_has() -> None:
    chosen = settings(steps=4, quantization={"method": "int4"}, lora=LORA, patience=3, ema=0.5)
    of, start = trained(chosen), plain()
    fit(of, data(), chosen, None, Ranks(), lambda *_: None)
    assert [name for name, _ in of.student.named_parameters()] == [name for name, _ in start.named_parameters()]
    for name, one in matrices(of.student).items():
        assert torch.equal(stored(one, 4, 32), one), name
        learnt = name.split(".")[-2] in ("wq", "w1", "w2", "w3")
        assert torch.equal(fixed(start.get_parameter(name), 4, 32), one) is not learnt, name


def test_dropout_of_adapters_and_rounding_are_one_too_many() -> None:
    with pytest.raises(ValidationError, match=r"give `lora\.dropout` 0"):
        settings(lora={"dropout": 0.1}, quantization=ROW)
