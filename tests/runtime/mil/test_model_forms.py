"""One model in the forms that coremltools can give it: compressed, with flexible shapes, several functions, states, control flow, images.

Packages are converted with plain coremltools and compared with torch; BOUND_DB and its error model are those of test_models.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.programs import opened, save, save_model
from fakes.torch_models import case, described, lowest_psnr, register_nms, traced
from torch import Tensor, nn

from interlock.errors import UsageError
from runtime.mil import Runner, open_package
from runtime.numerics import psnr_db

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore")]
BOUND_DB = 44.0


def close(found: Any, expected: Tensor) -> bool:
    return psnr_db(expected.float(), torch.from_numpy(np.asarray(found, np.float32))) > BOUND_DB


def compressed(name: str, package: Any) -> Any:
    import coremltools as ct

    kit = ct.optimize.coreml
    model = ct.models.MLModel(str(package), skip_model_load=True)
    if name.startswith("palette"):
        palette = kit.OpPalettizerConfig(mode="uniform", nbits=int(name[-1]), weight_threshold=1000)
        return kit.palettize_weights(model, kit.OptimizationConfig(global_config=palette))
    if name == "pruned and quantised":
        linear = kit.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=1000)
        return kit.linear_quantize_weights(compressed("pruned", package), kit.OptimizationConfig(global_config=linear), joint_compression=True)
    if name == "pruned and palettised":
        palette = kit.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=1000)
        return kit.palettize_weights(compressed("pruned", package), kit.OptimizationConfig(global_config=palette), joint_compression=True)
    if name == "pruned":
        return kit.prune_weights(model, kit.OptimizationConfig(global_config=kit.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=1000)))
    kinds = {
        "int8": {"mode": "linear_symmetric", "dtype": "int8"},
        "uint8": {"mode": "linear", "dtype": "uint8"},
        "int4": {"mode": "linear_symmetric", "dtype": "int4", "granularity": "per_block", "block_size": 32},
    }
    return kit.linear_quantize_weights(model, kit.OptimizationConfig(global_config=kit.OpLinearQuantizerConfig(weight_threshold=1000, **kinds[name])))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (name, "iOS18")
        for name in ("int8", "uint8", "int4", "palette4", "palette6", "palette8", "pruned", "pruned and quantised", "pruned and palettised")
    ]
    + [(name, "iOS16") for name in ("int8", "uint8", "palette4", "palette6", "pruned")],
)
def test_compressed_weights_are_what_coremltools_says_they_are(name: str, target: str) -> None:
    """The same package with the weights that coremltools itself materialises, in torch."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    module, inputs = case("wide")
    package = save_model(compressed(name, save(traced(module, inputs), inputs=described(inputs), target=target)))
    model = ct.models.MLModel(str(package), skip_model_load=True)
    operations = load(model.get_spec(), model.get_spec().specificationVersion, model.weights_dir).functions["main"].operations
    inner = {"constexpr_sparse_blockwise_shift_scale", "constexpr_lut_to_sparse"}
    found = [op.materialized_val_inference() for op in operations if op.op_type.startswith("constexpr") and op.op_type not in inner]
    for layer, weight in zip((module.first, module.second), found, strict=True):
        layer.weight.data = torch.from_numpy(np.asarray(weight).astype(np.float32))  # type: ignore[union-attr]
    program = open_package(package)
    assert lowest_psnr(program, "fp32", module, inputs) > 60
    assert lowest_psnr(program, "fp16", module, inputs) > BOUND_DB


@pytest.mark.parametrize("kind", ["enumerated", "ranged"])
def test_flexible_shapes_are_run_at_every_length(kind: str) -> None:
    import coremltools as ct

    module, inputs = case("encoder")
    lengths = (4, 9, 12)
    length = ct.RangeDim(4, 12, default=9)
    shape = ct.EnumeratedShapes([[1, size] for size in lengths], default=[1, 9]) if kind == "enumerated" else (1, length)
    program = opened(traced(module, inputs), inputs=[ct.TensorType(name=name, shape=shape, dtype=np.int32) for name in inputs])
    for size in lengths:
        given = {"ids": torch.randint(0, 50, (1, size), dtype=torch.int32), "mask": torch.ones(1, size, dtype=torch.int32)}
        assert lowest_psnr(program, "fp16", module, given) > BOUND_DB


@pytest.mark.parametrize("target", ["iOS16", "iOS17", "iOS18"])
def test_a_detection_head_suppresses_as_torchvision_does(target: str) -> None:
    import coremltools as ct

    register_nms()
    module, inputs = case("boxes")
    options = {"compute_precision": ct.precision.FLOAT32, "target": target}
    boxes, scores = Runner(opened(traced(module, inputs), inputs=described(inputs), **options)).run("main", {"x": inputs["x"].numpy()}).values()
    with torch.no_grad():
        expected = module(inputs["x"])
    assert 1 < len(boxes) < 25
    np.testing.assert_allclose(boxes, expected[0], atol=1e-4)
    np.testing.assert_allclose(scores, expected[1], atol=1e-4)


class Iterated(nn.Module):
    """Scripted: a loop that ends by its data, a loop of a given length, and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, given: Tensor) -> Tensor:
        x = given * 1.0
        while bool(x.abs().max() > 1.0):
            x = x / 2
        for _ in range(3):
            x = torch.tanh(self.mix(x))
        if bool(given.sum() > 0):  # noqa: SIM108 - a branch of the program
            x = x * 2
        else:
            x = x - 1
        return x


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_scripted_loops_and_branches(target: str) -> None:
    import coremltools as ct

    torch.manual_seed(0)
    module = Iterated().eval()
    program = opened(torch.jit.script(module), inputs=[ct.TensorType(name="given", shape=(2, 4))], target=target)
    kinds = {operation.type for operation in program.functions["main"].operations()}
    assert {"while_loop", "cond"} <= kinds
    signs = set()
    for seed in range(6):
        x = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)) * 4**seed
        with torch.no_grad():
            expected = module(x)
        signs.add(bool(x.sum() > 0))
        for mode in ("fp32", "fp16"):
            assert close(Runner(program, mode).run("main", {"given": x.numpy()}).popitem()[1], expected)  # type: ignore[arg-type]
    assert signs == {True, False}


def test_functions_share_their_weights(tmp_path: Path) -> None:
    """Two lengths of one encoder in one package."""
    import coremltools as ct

    descriptor = ct.utils.MultiFunctionDescriptor()
    module, _ = case("encoder")
    for size in (5, 9):
        given = {"ids": torch.randint(0, 50, (1, size), dtype=torch.int32), "mask": torch.ones(1, size, dtype=torch.int32)}
        descriptor.add_function(str(save(traced(module, given), inputs=described(given))), "main", f"length_{size}")
    descriptor.default_function_name = "length_5"
    ct.utils.save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))
    program = open_package(tmp_path / "both.mlpackage")
    assert (sorted(program.functions), program.default_function) == (["length_5", "length_9"], "length_5")
    runner = Runner(program, "fp16")
    for size in (9, 5):
        ids, mask = torch.randint(0, 50, (1, size), dtype=torch.int32), torch.ones(1, size, dtype=torch.int32)
        with torch.no_grad():
            expected = module(ids, mask)
        assert close(runner.run(f"length_{size}", {"ids": ids.numpy(), "mask": mask.numpy()}).popitem()[1], expected)


class Remembering(nn.Module):
    """A moving mean and a ring that is written at a place which is data."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 4))
        self.register_buffer("ring", torch.zeros(8, 4))
        self.mix = nn.Linear(4, 4)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        self.mean.mul_(0.5).add_(self.mix(x))  # type: ignore[operator, union-attr]
        self.ring[place[0] : place[0] + 1] = x  # type: ignore[index, operator]
        return torch.cat([self.mean, self.ring.sum(0, keepdim=True)])  # type: ignore[list-item, operator, arg-type, union-attr]


def test_states_go_from_call_to_call() -> None:
    import coremltools as ct

    torch.manual_seed(0)
    module, given = Remembering().eval().requires_grad_(False), {"x": torch.randn(1, 4), "place": torch.tensor([3], dtype=torch.int32)}
    tensor = {"mean": (1, 4), "ring": (8, 4)}
    states = [ct.StateType(wrapped_type=ct.TensorType(shape=shape, dtype=np.float16), name=name) for name, shape in tensor.items()]
    program = opened(traced(module, given), inputs=described(given), states=states)
    module.mean.zero_(), module.ring.zero_()  # type: ignore[operator, union-attr]  # tracing ran it once
    for mode in ("fp32", "fp16"):
        runner, fresh = Runner(program, mode), Remembering().eval().requires_grad_(False)  # type: ignore[arg-type]
        fresh.mix.load_state_dict(module.mix.state_dict())
        state = runner.new_state("main")
        for step in (0, 3, 3, 7, 1):
            x = torch.randn(1, 4)
            found = runner.run("main", {"x": x.numpy(), "place": np.array([step], np.int32)}, state).popitem()[1]
            assert close(found, fresh(x, torch.tensor([step])))


@pytest.mark.parametrize("layout", ["RGB", "BGR", "GRAYSCALE"])
def test_images_are_numbers_from_0_to_255_in_the_order_of_their_channels(layout: str) -> None:
    """Scale and bias of an ImageType stand in the program; what stands outside it, the order of channels and their range, is said."""
    import coremltools as ct

    torch.manual_seed(0)
    channels = 1 if layout == "GRAYSCALE" else 3
    module = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3), nn.Softmax(-1)).eval()
    image = ct.ImageType(name="photo", shape=(1, channels, 8, 8), scale=1 / 127.5, bias=[-1.0] * channels, color_layout=ct.colorlayout[layout])
    program = opened(
        traced(module, {"x": torch.zeros(1, channels, 8, 8)}), inputs=[image], classifier_config=ct.ClassifierConfig(["bird", "cat", "dog"])
    )
    assert program.functions["main"].features["photo"].image == layout
    pixels = np.random.default_rng(0).integers(0, 256, (1, channels, 8, 8)).astype(np.float32)
    outputs = Runner(program, "fp16").run("main", {"photo": pixels})
    with torch.no_grad():
        expected = module(torch.from_numpy(pixels) / 127.5 - 1)[0]
    assert outputs["classLabel"] == ["bird", "cat", "dog"][int(expected.argmax())]
    assert close(outputs["classLabel_probs"], expected)
    with pytest.raises(UsageError, match="numbers from 1 to 256"):
        Runner(program).run("main", {"photo": pixels + 1})


@pytest.mark.parametrize("kind", ["enumerated", "ranged"])
def test_images_have_the_sizes_that_are_described(kind: str) -> None:
    import coremltools as ct

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)).eval()
    side = ct.RangeDim(6, 12, default=8)
    shape = ct.EnumeratedShapes([[1, 3, 8, 8], [1, 3, 6, 10]], default=[1, 3, 8, 8]) if kind == "enumerated" else (1, 3, side, side)
    runner = Runner(opened(traced(module, {"x": torch.zeros(1, 3, 8, 8)}), inputs=[ct.ImageType(name="photo", shape=shape)]), "fp16")
    for height, width, taken in ((8, 8, True), (6, 10, True), (5, 8, False), (8, 13, False)):
        pixels = np.random.default_rng(0).integers(0, 256, (1, 3, height, width)).astype(np.float32)
        if taken:
            with torch.no_grad():
                assert close(runner.run("main", {"photo": pixels}).popitem()[1], module(torch.from_numpy(pixels)))
        else:
            with pytest.raises(UsageError, match="was given shape"):
                runner.run("main", {"photo": pixels})


def test_the_command_line_runs_a_foreign_package(tmp_path: Path, root: Path) -> None:
    """In a process of its own, inputs and outputs through files."""
    module, inputs = case("vision transformer")
    package = save(traced(module, inputs), inputs=described(inputs), target="iOS17")
    np.savez(tmp_path / "given.npz", **{name: value.numpy() for name, value in inputs.items()})  # type: ignore[arg-type]
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "mil",
        "run",
        str(package),
        "--inputs",
        str(tmp_path / "given.npz"),
        "--out",
        str(tmp_path / "o.npz"),
    ]
    done = subprocess.run([*command, "--json"], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["zero_inputs"] == []
    with torch.no_grad():
        expected = module(*inputs.values())
    (found,) = np.load(tmp_path / "o.npz").values()
    assert close(found, expected)


def test_the_command_line_names_a_class(tmp_path: Path, root: Path) -> None:
    import coremltools as ct

    module = nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1)).eval()
    package = save(
        traced(module, {"x": torch.zeros(1, 6)}),
        inputs=[ct.TensorType(name="x", shape=(1, 6))],
        classifier_config=ct.ClassifierConfig(["a", "b", "c"]),
    )
    command = [sys.executable, "-m", "pipeline.cli", "mil", "run", str(package), "--out", str(tmp_path / "o.npz")]
    done = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = "abc"[int(module(torch.zeros(1, 6)).argmax())]
    assert f"`{expected}`" in done.stdout
    assert str(np.load(tmp_path / "o.npz")["classLabel"]) == expected
