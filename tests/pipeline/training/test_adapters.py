"""Adapters compute W + (alpha / rank) · B A, change nothing else, and end as plain weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.trainings import data, rows, settings, trained
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor

from interlock.errors import UsageError
from pipeline.training import state, step
from pipeline.training.adapters import Adapted
from pipeline.training.estimate import MERGED, THROWN_AWAY, estimated
from pipeline.training.loop import fit
from pipeline.training.model import Trained
from pipeline.training.ranks import Ranks

pytestmark = pytest.mark.train


def adapted(*, filled: bool = False, **lora: Any) -> Trained:
    """A student with adapters of rank 3; `filled`: as if they had been trained."""
    made = trained(settings(lora={"rank": 3, "alpha": 6.0, **lora}))
    if filled:
        torch.manual_seed(0)
        for one in made.student.modules():
            if isinstance(one, Adapted):
                torch.nn.init.normal_(one.lora_B, std=0.1)
    return made


def maps(of: Trained) -> dict[str, Adapted]:
    return {name: one for name, one in of.student.named_modules() if isinstance(one, Adapted)}


def weights(of: Trained) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in of.student.named_parameters()}


def test_a_training_starts_from_the_student_as_it_is() -> None:
    ids = torch.arange(4, 20)[None]
    assert torch.equal(adapted().student(ids).logits, trained(settings()).student(ids).logits)


@pytest.mark.parametrize("bias", [False, True])
def test_an_adapter_adds_a_product_of_low_rank(bias: bool) -> None:
    """By the published formula in double precision. A sum of 48 products and one of 3 in fp32: each term's error is below 2⁻²⁴ of what was added."""
    of = trained(settings(lora={"rank": 3, "alpha": 6.0}), attention_bias=bias)
    one = of.student.get_submodule("blocks.1.attn.wk")
    assert isinstance(one, Adapted) and (one.bias is not None) == bias
    torch.nn.init.normal_(one.lora_B)
    x = torch.randn(5, one.in_features)
    whole = one.weight.double() + 6.0 / 3 * one.lora_B.double() @ one.lora_A.double()
    expected = x.double() @ whole.T + (one.bias.double() if bias else 0)
    bound = 2**-24 * 64 * (x.double().abs() @ (one.weight.double().abs() + 2 * one.lora_B.double().abs() @ one.lora_A.double().abs()).T + 1)
    assert ((one(x) - expected).abs() <= bound).all()
    assert ((one.merged()(x) - expected).abs() <= bound).all()


def test_peft_computes_and_merges_the_same() -> None:
    """The package that everybody uses, on the same student with the same numbers."""
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    of, theirs, ids = adapted(filled=True), trained(settings()).student, torch.arange(4, 60)[None]
    inject_adapter_in_model(LoraConfig(r=3, lora_alpha=6, target_modules=r"blocks\.\d+\.(attn|mlp)\.\w+"), theirs)
    layers = {name: one for name, one in theirs.named_modules() if isinstance(one, LoraLayer)}
    assert layers.keys() == maps(of).keys()
    for name, one in maps(of).items():
        layers[name].lora_A["default"].weight.data = one.lora_A.data
        layers[name].lora_B["default"].weight.data = one.lora_B.data
    assert torch.equal(of.student(ids).logits, theirs(ids).logits)
    for name, one in maps(of).items():
        layers[name].merge()  # type: ignore[operator]
        assert torch.equal(one.merged().weight, layers[name].get_base_layer().weight)  # type: ignore[arg-type]


def test_merged_weights_answer_as_the_adapters_did() -> None:
    of, ids = adapted(filled=True), torch.arange(4, 60)[None]
    plain = trained(settings())
    names = [name for name, _ in plain.student.named_parameters()]
    before = of.student(ids)
    of.end()
    after = of.student(ids)
    assert not maps(of) and [name for name, _ in of.student.named_parameters()] == names
    for one, other, start in zip(before, after, plain.student(ids), strict=True):
        if one is not None:
            # two layers of fp32 sums: 100 dB is 2⁻¹⁷ of what the adapters changed
            assert (one - other).norm() < 1e-5 * (one - start).norm()


def test_only_adapters_and_whole_parts_are_trained(tmp_path: Path) -> None:
    chosen = settings(lora={"rank": 2, "targets": ["wq", "blocks.1.mlp"], "whole": ["norm_f"]})
    of, start = trained(chosen), weights(trained(chosen))
    names = {"blocks.0.attn.wq", "blocks.1.attn.wq", "blocks.1.mlp.w1", "blocks.1.mlp.w2", "blocks.1.mlp.w3"}
    assert maps(of).keys() == names
    fit(of, data(), chosen, tmp_path, Ranks(), lambda *_: None)
    after = weights(of)
    changed = {name for name, one in after.items() if not torch.equal(one, start[name])}
    assert changed == {f"{name}.weight" for name in names} | {"norm_f.weight"}
    for name in changed - {"norm_f.weight"}:
        sizes = torch.linalg.svdvals((after[name] - start[name]).double())
        assert sizes[1] > 1e-4 and sizes[2] < 1e-6  # of rank 2, up to the rounding of the sum


def test_what_is_saved_for_a_killed_run_is_what_changes(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def tell(line: dict[str, Any], tokens: int) -> None:
        if line["step"] == 5:
            raise Killed

    chosen = settings(lora={"rank": 2})
    with pytest.raises(Killed):
        fit(trained(chosen), data(), chosen, tmp_path, Ranks(), tell)
    with safe_open(str(tmp_path / state.FILE), framework="pt") as file:
        saved = {name for name in file.keys() if name.startswith("model.")}  # noqa: SIM118 - not a mapping
    assert saved == {f"model.{name}" for name in trained(chosen).changing()}
    assert not any(name.endswith(".weight") for name in saved if name.startswith("model.student."))


def test_dropout_is_drawn_alike_where_layers_are_computed_again() -> None:
    found = []
    for recompute in (False, True):
        chosen = settings(lora={"rank": 2, "dropout": 0.5}, recompute=recompute, clip=1e6)
        of = trained(chosen)
        for one in maps(of).values():
            torch.nn.init.ones_(one.lora_B)
        torch.manual_seed(3)
        step.take(of, torch.optim.SGD(of.changing().values(), lr=1.0), [rows(8, steps=(2,))], 1, chosen, Ranks(), "step 1")
        found.append(weights(of))
    assert all(torch.equal(one, found[1][name]) for name, one in found[0].items())


def test_an_estimate_counts_what_is_trained() -> None:
    chosen = settings(lora={"rank": 2, "targets": ["wk"], "whole": ["halt_head"]}, weights={"step": 0})
    of = trained(chosen)
    wk = maps(of)["blocks.0.attn.wk"]
    adapters = 2 * 2 * (wk.in_features + wk.out_features)
    found = estimated(of, data(), chosen, None)
    head = 2 * wk.in_features + 2
    assert found.parameters[MERGED] == adapters and found.trained == adapters + head and THROWN_AWAY not in found.parameters
    assert found.memory_bytes["gradients"] == 4 * (adapters + head) and found.memory_bytes["optimizer"] == 8 * (adapters + head)
    assert found.memory_bytes["weights"] == 4 * sum(found.parameters.values())


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        ({"targets": ["wz"]}, r"`lora\.targets` names `wz`"),
        ({"targets": ["lm_head"]}, "no linear map of the student's layers"),
        ({"whole": ["blocks.7"]}, r"`lora\.whole` names `blocks\.7`"),
        ({"whole": ["blocks.0"]}, "has adapters too"),
    ],
)
def test_names_that_fit_no_student_are_refused(lora: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        adapted(**lora)


def test_adapters_freeze_the_rest_themselves() -> None:
    with pytest.raises(ValidationError, match="leave `frozen` out"):
        settings(lora={}, frozen=["embed"])
