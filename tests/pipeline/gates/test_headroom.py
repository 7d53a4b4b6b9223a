"""What comes near the end of fp16 is refused by its name, and what cannot be safe in any run is seen without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interlock.contracts.package import HeadRoom

pytestmark = pytest.mark.export

PROMPT = [(i * 37) % 61 for i in range(97)]
LENGTH, SLOTS = 32, 96


def gated_peak(student: Any) -> float:
    """The greatest |silu(w1 x) · w3 x| of the second layer on what the gate reads of both texts, by torch's own hooks."""
    import torch

    seen = list[float]()
    hook = student.blocks[1].mlp.w2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].abs().max().item()))
    with torch.inference_mode():
        for text in (PROMPT[:LENGTH], [*PROMPT[48:], *PROMPT[:48]][:LENGTH]):
            student.hidden(torch.tensor([text]))
    hook.remove()
    return max(seen)


def packaged(folder: Path, peak: float) -> Path:
    """A student whose residual stream stands near 1700 (x² is infinite in fp16) and whose second gated product reaches `peak`."""
    import torch
    from fakes.exported_students import export_student, storable
    from fakes.students import tiny_student

    from interlock.contracts.checkpoint import ModelArch
    from pipeline.coreml import functions
    from pipeline.coreml.merge import merge_functions

    student = tiny_student(ModelArch(), n_layers=2, max_position=128)
    with torch.no_grad():
        student.embed.weight.mul_(1700 / student.embed.weight.abs().max())
        student.blocks[1].mlp.w1.weight.mul_(8)
        student.blocks[1].mlp.w3.weight.mul_(peak / gated_peak(student))
        student.blocks[1].mlp.w2.weight.div_(peak / 100)
    exported = export_student(storable(student), folder)
    parts, _ = functions.convert_stateful(exported.files, exported.signatures, functions.plan_functions((LENGTH,)), SLOTS, folder, lambda _: None)
    merge_functions(parts, "decode", folder / "made.mlpackage", lambda _: None)
    return measured(folder / "made.mlpackage", student)


def measured(package: Path, student: Any) -> Any:
    from interlock.voice import SilentVoice
    from pipeline.coreml.facts import read_package
    from pipeline.gates.package import measure

    with SilentVoice().task("") as task:
        return package, measure(package, read_package(package), student, PROMPT, task)


def gated_products(package: Path, function: str) -> list[str]:
    """The products of a silu with something, in order."""
    from runtime.mil import open_package

    operations = open_package(package).functions[function].block.operations
    gates = {operation.outputs[0].name for operation in operations if operation.type == "silu"}
    return [
        operation.outputs[0].name for operation in operations if operation.type == "mul" and gates & {str(x[0]) for x in operation.inputs.values()}
    ]


@pytest.mark.parametrize(("peak", "said"), [(9e4, "overflows fp16"), (5e4, "reaches"), (2e4, None)])
def test_the_value_that_comes_near_the_end_is_named(tmp_path: Path, peak: float, said: str | None) -> None:
    """Far enough below it nothing is refused, although the norm's square would overflow in fp16: it is computed in fp32."""
    package, found = packaged(tmp_path, peak)
    wanted = {gated_products(package, function)[1] for function in ("prefill_32", "decode")}
    assert found.headroom[0].value in wanted and found.headroom[0].operation == "mul"
    if said is None:
        assert found.refused == () and 65504 / 3e4 < found.headroom[0].factor < 65504 / 1.6e4
        assert all(item.finite and item.psnr_db >= 50 for item in found.evidence)
    else:
        assert said in found.refused[0] and f"mul `{found.headroom[0].value}`" in found.refused[0] and "fp32" in found.refused[0]


def test_room_is_judged_by_the_factor() -> None:
    from pipeline.gates.headroom import ENOUGH, shortage

    items = [HeadRoom(function="f", operation="add", value=f"v{factor}", max_abs=65504 / factor, factor=factor) for factor in (ENOUGH - 0.1, ENOUGH)]
    assert [line for line in shortage(items) if "`v1.9`" in line] == shortage(items) != []


def test_an_infinite_mask_and_an_angle_in_the_graph_are_seen_without_a_run(tmp_path: Path) -> None:
    from fakes.converted_students import converted
    from test_package_gate import edited, operations, replaced

    from pipeline.coreml.merge import merge_functions
    from pipeline.gates.headroom import unsafe
    from runtime.mil import open_package

    def spoiled(program: Any) -> int:
        for operation in operations(program, "silu")[:1]:
            operation.type = "cos"
        return replaced(program, lambda value: value <= -9000, -np.inf)

    true = tmp_path / "true.mlpackage"
    merge_functions(converted().packages, "decode", true, lambda _: None)
    assert unsafe(open_package(true)) == []
    found = unsafe(open_package(edited(true, tmp_path / "spoiled.mlpackage", spoiled)))
    assert any("cos `" in line for line in found) and any("not finite" in line for line in found)
