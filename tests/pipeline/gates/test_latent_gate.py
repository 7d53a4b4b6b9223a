"""`decode_latent` under the gate: a true one passes in both lanes, one of another student fails, and errors that add up are granted as such."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pytest

from interlock.contracts.package import LATENT, Evidence, Thresholds
from interlock.errors import GateFailed
from interlock.voice import SilentVoice
from pipeline.gates.latent import AFTER_SPAN, FED_BACK, chained_bounds

pytestmark = pytest.mark.export
LENGTH, SLOTS, SPAN = 32, 96, 6
PROMPT = [i * 7 % 101 for i in range(101)]


def student() -> Any:
    from fakes.exported_students import storable
    from fakes.students import tiny_student

    from interlock.contracts.checkpoint import ModelArch

    return storable(tiny_student(ModelArch(use_halt_head=True), n_layers=2, tie_embeddings=True, max_position=128))


@functools.cache
def made(folder: Path) -> dict[str, dict[str, Path]]:
    """By lane, a package for each function; those of the second lane are the first's but for `decode_latent`, which is what is looked at."""
    from fakes.exported_students import export_student

    from pipeline.coreml.export_lane import convert_stateful_exported
    from pipeline.coreml.functions import convert_stateful, plan_functions

    exported = export_student(student(), folder, latent=True)
    plans = plan_functions((LENGTH,), latent=True)
    for lane in ("trace", "export"):
        (folder / lane).mkdir()
    trace, _ = convert_stateful(exported.files, exported.signatures, plans, SLOTS, folder / "trace", lambda _: None)
    other, _ = convert_stateful_exported(exported.student, exported.signatures, plans[-1:], SLOTS, folder / "export", lambda _: None)
    return {"trace": trace, "export": {**trace, **other}}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    return made(tmp_path_factory.mktemp("latent"))


def merged(parts: dict[str, Path], into: Path) -> Path:
    from pipeline.coreml.merge import merge_functions

    merge_functions(parts, "decode", into, lambda _: None)
    return into


def measured(package: Path) -> Any:
    from pipeline.coreml.facts import read_package
    from pipeline.gates.package import measure

    with SilentVoice().task("") as task:
        return measure(package, read_package(package), student(), PROMPT, task, latent_slots=SPAN)


@pytest.mark.parametrize("lane", ["trace", "export"])
def test_a_true_package_passes_with_every_case(parts: dict[str, dict[str, Path]], lane: str, tmp_path: Path) -> None:
    from pipeline.coreml.facts import read_package
    from pipeline.gates.package import failures

    package = merged(parts[lane], tmp_path / "made.mlpackage")
    function = read_package(package).functions[LATENT]
    vector = next(feature for feature in function.inputs if feature.name == "inputs_embeds")
    assert (vector.dtype, vector.shape) == ("float16", (1, 1, 48)) and "input_ids" not in {feature.name for feature in function.inputs}
    found = measured(package)
    assert found.repeatable and not found.refused and failures(found.evidence, found.repeatable) == []
    cases = {(item.function, item.case, item.positions) for item in found.evidence if item.function == LATENT or item.case == AFTER_SPAN}
    assert cases == {(LATENT, "", SPAN), (LATENT, FED_BACK, SPAN), ("decode", AFTER_SPAN, 8)}


def test_latent_steps_share_every_weight_with_the_others(parts: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    """The embedding, which it does not look up, is the tied head that it needs."""
    sizes = []
    for names in (["prefill_32", "decode"], ["prefill_32", "decode", LATENT]):
        package = merged({name: parts["trace"][name] for name in names}, tmp_path / f"{len(names)}.mlpackage")
        sizes.append((package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").stat().st_size)
    assert sizes[0] == sizes[1]


def test_a_function_of_another_student_fails_and_so_does_what_follows_it(parts: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    from fakes.exported_students import export_student

    from pipeline.coreml.functions import convert_stateful, plan_functions
    from pipeline.gates.package import failures

    other = student()
    other.blocks[1].attn.wv.weight.data *= -1
    (tmp_path / "other").mkdir()
    exported = export_student(other, tmp_path / "other", latent=True)
    plan = [plan for plan in plan_functions((LENGTH,), latent=True) if plan.name == LATENT]
    wrong, _ = convert_stateful(exported.files, exported.signatures, plan, SLOTS, tmp_path, lambda _: None)
    found = measured(merged({**parts["trace"], **wrong}, tmp_path / "wrong.mlpackage"))
    lines = failures(found.evidence, found.repeatable)
    assert any(line.startswith(f"{LATENT} (1 tokens), ") for line in lines) and any(FED_BACK in line for line in lines)
    assert any(AFTER_SPAN in line for line in lines)
    assert not any(line.startswith("prefill") or line.startswith("decode (1 tokens),") for line in lines)


def test_the_lanes_agree_on_latent_steps(parts: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    from pipeline.coreml.facts import read_package
    from pipeline.gates.drift import SLOTS as COMPARED
    from pipeline.gates.drift import measure_drift
    from pipeline.gates.package import failures

    paths = merged(parts["trace"], tmp_path / "a.mlpackage"), merged(parts["export"], tmp_path / "b.mlpackage")
    with SilentVoice().task("") as task:
        drift = measure_drift(paths, (read_package(paths[0]), read_package(paths[1])), student(), PROMPT, 50.0, task)
    mine = [item for item in drift.evidence if item.function == LATENT]
    assert {item.against for item in mine} == {None, "trace"} and {item.positions for item in mine} == {COMPARED}
    assert failures(drift.evidence, repeatable=True) == []


def test_errors_of_a_chain_may_add_up_and_no_more() -> None:
    least = Thresholds(psnr_db=50, kl_mean=1e-4, kl_max=1e-3)
    item = Evidence(function=LATENT, tokens=1, case=FED_BACK, output="hidden", positions=9, finite=True, psnr_db=41.0)
    bounds = chained_bounds(item, least)
    # n independent errors of one size: rms √n times as large, KL quadratic in it
    assert bounds.psnr_db == pytest.approx(50 - 20 * math.log10(3)) and (bounds.kl_mean, bounds.kl_max) == pytest.approx((9e-4, 9e-3))
    assert chained_bounds(item.model_copy(update={"case": ""}), least) == least


def test_the_promise_is_latent_steps_exactly_where_they_were_trained(parts: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    from pipeline.coreml.facts import read_package
    from pipeline.gates.verdict import promise_kept

    facts = read_package(merged(parts["trace"], tmp_path / "with.mlpackage"))
    promise_kept(facts, True, "multifunction", latent=True)
    with pytest.raises(GateFailed, match=LATENT):
        promise_kept(facts, True, "multifunction", latent=False)


@pytest.mark.parametrize("mode", ["fp16", "fast"])
def test_the_package_backend_feeds_vectors_as_the_student_does(parts: dict[str, dict[str, Path]], mode: Any, tmp_path: Path) -> None:
    import torch

    from interlock.errors import UsageError
    from pipeline.coreml.facts import read_package
    from pipeline.gates.spans import Span
    from runtime.backends.reference import reference_backend
    from runtime.numerics import psnr_db

    package = merged(parts["trace"], tmp_path / "made.mlpackage")
    backend, ids = reference_backend(package, read_package(package), mode), PROMPT[:20]
    span, cache = Span.of(student(), ids, SPAN), backend.new_cache()
    step = backend.prefill(ids, cache)
    for wanted in span.outputs["hidden"]:
        step = backend.decode(step.hidden, cache)
        assert psnr_db(wanted, torch.from_numpy(step.hidden)) >= 50 - 10 * math.log10(SPAN)
    assert cache.position == 20 + SPAN
    without = merged({name: parts["trace"][name] for name in ("prefill_32", "decode")}, tmp_path / "plain.mlpackage")
    with pytest.raises(UsageError, match="tokens only"):
        plain = reference_backend(without, read_package(without), mode)
        plain.decode(step.hidden, plain.new_cache())


def test_a_compressed_package_carries_latent_steps_on(parts: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    """One copy of each weight in its new form serves all functions, and rounding shows in slots as it does in tokens."""
    from pipeline.coreml.compression.compress import Request, compress
    from pipeline.coreml.facts import read_package

    whole, small = merged(parts["trace"], tmp_path / "whole.mlpackage"), tmp_path / "small.mlpackage"
    compress(whole, small, Request("int8"), student(), (), PROMPT, lambda _: None)
    facts = read_package(small)
    assert set(facts.functions) == {"prefill_32", "decode", LATENT} and facts.weight_bytes < 0.75 * read_package(whole).weight_bytes
    assert "constexpr_blockwise_shift_scale" in facts.functions[LATENT].operations
    found = measured(small)
    figures = {item.function: item.psnr_db for item in found.evidence if item.output == "logits" and not item.case and item.against is None}
    # 8 bits: 46 to 53 dB where fp16 has 72 to 75, and far below 30 where a weight is wrong
    assert found.repeatable and all(value is not None and 40 < value < 60 for value in figures.values()), figures
