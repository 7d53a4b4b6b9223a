"""Small torch models of many kinds, none of them a language model of this project, and how they are converted and compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.mil import Program, Runner
from runtime.numerics import psnr_db


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


class SuperResolution(nn.Module):
    """Residual blocks with instance and group norm, a parametric slope, pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 5, padding=2, padding_mode="reflect"), nn.Conv2d(8, 12, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True)])
        self.middle, self.slope = nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.slope(self.norms[0](self.first(x)))
        return F.pixel_shuffle(self.last(wide + self.norms[1](self.middle(wide))), 2).clamp(-3, 3)


class Speech(nn.Module):
    """One-dimensional convolutions with gates and dilation, a unidirectional LSTM of two layers and an RNN."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Conv1d(4, 16, 5, stride=2, padding=4, dilation=2)
        self.words, self.plain, self.out = nn.LSTM(8, 12, num_layers=2), nn.RNN(12, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps = F.glu(self.frames(x), 1).permute(2, 0, 1)
        said, (last, _) = self.words(steps)
        return F.log_softmax(self.out(self.plain(said)[0]), -1), last


class VisionTransformer(nn.Module):
    """Patches, a class token, pre-norm attention by einsum, a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 32, 4, 4), nn.Parameter(torch.randn(1, 1, 32))
        self.places = nn.Parameter(torch.randn(1, 17, 32) / 4)
        self.norm, self.qkv, self.out = nn.LayerNorm(32), nn.Linear(32, 96, bias=False), nn.Linear(32, 32)
        self.gate, self.down, self.head = nn.Linear(32, 128), nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.token, self.patch(x).flatten(2).transpose(1, 2)], 1) + self.places
        q, k, v = self.qkv(self.norm(tokens)).view(1, 17, 3, 4, 8).unbind(2)
        weights = torch.einsum("bqhd,bkhd->bhqk", q, k).mul(8**-0.5).softmax(-1)
        tokens = tokens + self.out(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))
        one, other = self.gate(self.norm(tokens)).chunk(2, -1)
        found: Tensor = self.head((tokens + self.down(F.silu(one) * other))[:, 0])
        return found


class Tabular(nn.Module):
    """Columns of classes and numbers: embeddings, scatter, cumulative sums, powers, an argmax."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, 6) for size in (11, 5, 7))
        self.norm, self.first, self.second = nn.BatchNorm1d(22), nn.Linear(22, 32), nn.Linear(32, 4)

    def forward(self, classes: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        parts = [table(classes[:, at]) for at, table in enumerate(self.tables)]
        scores = self.second(F.elu(self.first(self.norm(torch.cat([*parts, torch.sqrt(numbers.abs()).cumsum(-1)], -1)))))
        return scores, scores.argmax(-1).to(torch.int32)


class SpatialTransformer(nn.Module):
    """An image sampled where a small net says; three-dimensional convolution; a pool that keeps a size."""

    def __init__(self) -> None:
        super().__init__()
        self.where, self.volume = nn.Linear(2 * 8 * 8, 6), nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.where(x.flatten(1)).tanh().view(-1, 2, 3) / 4 + torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        seen = F.grid_sample(x, F.affine_grid(matrix, [1, 2, 8, 8], align_corners=True), align_corners=True)
        return F.avg_pool3d(self.volume(seen[:, None]), (1, 2, 2))


class Boxes(nn.Module):
    """A detection head with suppression: boxes from a map, then torchvision's nms."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high, score = self.map(x).flatten(2)[0].T.split([2, 2, 1], -1)
        boxes = torch.cat([low, low + high.exp() + 0.5], -1)
        places = torch.ops.torchvision.nms(boxes, score[:, 0], 0.3)
        return boxes[places], score[places, 0]


def register_nms() -> None:
    """torchvision's operation by its schema, for tracing; as its documentation defines it."""
    if hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

    def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        kept: list[int] = []
        areas = (dets[:, 2:] - dets[:, :2]).prod(-1)
        for place in scores.argsort(descending=True).tolist():
            shared = (torch.minimum(dets[place, 2:], dets[kept, 2:]) - torch.maximum(dets[place, :2], dets[kept, :2])).clamp(min=0).prod(-1)
            if not bool((shared / (areas[place] + areas[kept] - shared) > iou_threshold).any()):
                kept.append(place)
        return torch.tensor(kept)

    library.impl("nms", nms, "CPU")
    _LIBRARIES.append(library)


_LIBRARIES: list[torch.library.Library] = []


def case(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """A module in evaluation mode with its inputs by name; the same ones every time."""
    torch.manual_seed(0)
    made: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor]]] = {
        "convolutions": (Convolutions, {"x": torch.randn(1, 3, 16, 16)}),
        "recurrent": (Recurrent, {"x": torch.randn(2, 7, 6)}),
        "encoder": (Encoder, {"ids": torch.randint(0, 50, (1, 9), dtype=torch.int32), "mask": torch.tensor([[1] * 6 + [0] * 3], dtype=torch.int32)}),
        "detection": (Detection, {"x": torch.randn(1, 4, 6, 6)}),
        "wide": (Wide, {"x": torch.randn(5, 64)}),
        "super resolution": (SuperResolution, {"x": torch.randn(1, 3, 8, 8)}),
        "speech": (Speech, {"x": torch.randn(1, 4, 30)}),
        "vision transformer": (VisionTransformer, {"x": torch.randn(1, 3, 16, 16)}),
        "tabular": (Tabular, {"classes": torch.randint(0, 5, (6, 3), dtype=torch.int32), "numbers": torch.randn(6, 4)}),
        "spatial transformer": (SpatialTransformer, {"x": torch.randn(1, 2, 8, 8)}),
        "boxes": (Boxes, {"x": torch.randn(1, 4, 5, 5)}),
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
