"""Whole packages of many kinds, converted with plain coremltools, against the torch modules they were made from.

Error model. A converted fp16 program stores every value in 11 bits: relative rounding 2^-11 per value. Errors of n roundings add like a random
walk, so that a model whose longest path has n operations is expected near 20·log10(2^11/√n) below its peak: 56 dB for n = 16, 50 dB for n = 64.
BOUND_DB leaves a factor of two. fp32 mode shares the rounding of weights and inputs only and must not be worse. Programs
converted in fp32 differ by the order of sums alone: more than 100 dB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes.programs import opened, save, save_model
from torch import Tensor, nn

from runtime.mil import Program, Runner, open_package
from runtime.numerics import psnr_db

# the converter and the tracer warn about versions and deprecations; what they say is recorded by the stages, not here
pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore")]
BOUND_DB, EXACT_DB = 44.0, 100.0


class Convolutions(nn.Module):
    """Strided and grouped convolutions, batch norm, pools, a transposed convolution and a skip: a small U-Net and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.mix = nn.Conv2d(16, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        wide = F.relu6(self.norm(self.first(x)))
        deep = F.hardswish(self.depth(F.max_pool2d(wide, 3, 2, 1)))
        joined = torch.cat([wide, self.up(deep)], 1)
        mixed = F.interpolate(F.leaky_relu(self.mix(joined)), scale_factor=2.0, mode="bilinear", align_corners=False)
        pooled: Tensor = F.softmax(self.head(F.adaptive_avg_pool2d(F.avg_pool2d(mixed, 2), 1).flatten(1)), -1)
        return pooled


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(6, 8, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(16, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.gru(self.both(x)[0])[0]
        return found


class Encoder(nn.Module):
    """Token and position embeddings, two post-norm layers with a padding mask, pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(16, 32)
        self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(2))
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        heads = [part(x).view(1, -1, 4, 8).transpose(1, 2) for part in (self.query, self.key, self.value)]
        hidden = (1.0 - mask.float())[:, None, None, :] * -1e4
        seen = F.scaled_dot_product_attention(*heads, attn_mask=hidden).transpose(1, 2).reshape(1, -1, 32)
        x = self.norms[0](x + self.out(seen))
        x = self.norms[1](x + self.narrow(F.gelu(self.wide(x))))
        weights = mask.float()[..., None]
        pooled: Tensor = torch.tanh((x * weights).sum(1) / weights.sum(1))
        return pooled


class Detection(nn.Module):
    """Boxes from a map: split, exp, top k, gather, sort, clamp, cumulative sums, comparisons."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        centre, size, score = self.map(x).flatten(2).transpose(1, 2).split([2, 2, 2], -1)
        best, places = score.sigmoid().amax(-1).topk(5)
        boxes = torch.cat([centre - size.exp() / 2, centre + size.exp() / 2], -1).clamp(-3.0, 3.0)
        chosen = torch.gather(boxes, 1, places[..., None].expand(-1, -1, 4))
        return torch.where(best[..., None] > 0.4, chosen, torch.zeros_like(chosen)), best.cumsum(-1)


class Wide(nn.Module):
    """Weights large enough that compression touches them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.second(F.silu(self.first(x)))
        return found


def case(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    made: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor]]] = {
        "convolutions": (Convolutions, {"x": torch.randn(1, 3, 16, 16)}),
        "recurrent": (Recurrent, {"x": torch.randn(2, 7, 6)}),
        "encoder": (Encoder, {"ids": torch.randint(0, 50, (1, 9), dtype=torch.int32), "mask": torch.tensor([[1] * 6 + [0] * 3], dtype=torch.int32)}),
        "detection": (Detection, {"x": torch.randn(1, 4, 6, 6)}),
        "wide": (Wide, {"x": torch.randn(5, 64)}),
    }
    kind, inputs = made[name]
    module = kind().eval()
    if name == "convolutions":
        module.norm.running_mean += 0.3  # type: ignore[operator, union-attr]
    return module, inputs


def traced(module: nn.Module, inputs: dict[str, Tensor]) -> Any:
    with torch.no_grad():
        return torch.jit.trace(module, tuple(inputs.values()), check_trace=False)  # type: ignore[no-untyped-call]


def described(inputs: dict[str, Tensor]) -> list[Any]:
    import coremltools as ct

    numpy = {torch.float32: np.float32, torch.int32: np.int32}
    return [ct.TensorType(name=name, shape=tuple(value.shape), dtype=numpy[value.dtype]) for name, value in inputs.items()]


def lowest_psnr(program: Program, mode: Any, module: nn.Module, inputs: dict[str, Tensor]) -> float:
    with torch.no_grad():
        expected = module(*inputs.values())
    outputs = Runner(program, mode).run("main", {name: value.numpy() for name, value in inputs.items()})
    wanted = expected if isinstance(expected, tuple) else (expected,)
    pairs = zip(wanted, outputs.values(), strict=True)
    return min(psnr_db(one.float(), torch.from_numpy(other.astype(np.float32))) for one, other in pairs)


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18"])
@pytest.mark.parametrize("name", ["convolutions", "recurrent", "encoder", "detection"])
def test_converted_models_compute_what_torch_computes(name: str, target: str) -> None:
    module, inputs = case(name)
    program = opened(traced(module, inputs), inputs=described(inputs), target=target)
    assert lowest_psnr(program, "fp32", module, inputs) > BOUND_DB
    assert lowest_psnr(program, "fp16", module, inputs) > BOUND_DB


@pytest.mark.parametrize("name", ["convolutions", "recurrent", "encoder", "detection"])
def test_models_converted_in_fp32_differ_by_the_order_of_sums(name: str) -> None:
    import coremltools as ct

    module, inputs = case(name)
    program = opened(traced(module, inputs), inputs=described(inputs), compute_precision=ct.precision.FLOAT32)
    assert lowest_psnr(program, "fp32", module, inputs) > EXACT_DB


def compressed(name: str, package: Any) -> Any:
    import coremltools as ct

    kit = ct.optimize.coreml
    model = ct.models.MLModel(str(package), skip_model_load=True)
    if name.startswith("palette"):
        palette = kit.OpPalettizerConfig(mode="uniform", nbits=int(name[-1]), weight_threshold=1000)
        return kit.palettize_weights(model, kit.OptimizationConfig(global_config=palette))
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
    [(name, "iOS18") for name in ("int8", "uint8", "int4", "palette4", "palette6", "palette8", "pruned")]
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
    found = [op.materialized_val_inference() for op in operations if op.op_type.startswith("constexpr")]
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
