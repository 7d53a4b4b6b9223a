"""The file of a halt head: two tensors, and in its metadata what they were fitted on and what they may be asked.

Here: writing, reading and the digest of a backbone. Not here: fitting (fit.py), those that come with interlock (shipped.py), putting a head into
a checkpoint (pipeline/stages/import_.py).
`halt_head.weight` [2, d] and `halt_head.bias` [2] fp32 with rows `[continue, halt]` = [-z/2, +z/2], so that softmax(halt) = sigmoid(z).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from interlock.contracts import strict
from interlock.contracts.base import Frozen, Sha256
from interlock.contracts.checkpoint import Arch, HaltTraining, ModelArch, Training
from interlock.errors import refuse
from interlock.fs import save_file
from pipeline.sources.safetensors import check_header

if TYPE_CHECKING:
    from torch import Tensor

METADATA = "interlock.halt_head"
TENSORS = ("halt_head.weight", "halt_head.bias")
MAX_BYTES = 1 << 20  # a width of 65,536 needs half of it
REMEDY = "make the head again: interlock halt-fit CHECKPOINT --out FILE"


class HeadFacts(Frozen):
    """What a head says of itself. `hidden`: which vector it reads; `gate`: where it may be obeyed; `seed`, `answers` and `l2`: how it was fitted."""

    version: Literal[1] = 1
    hidden: Literal["last position, after the final norm"] = "last position, after the final norm"
    gate: Literal["sentence_end"] = "sentence_end"
    backbone: Sha256
    threshold: Annotated[float, Field(gt=0, lt=1)]
    knows: tuple[str, ...]
    seed: int
    answers: Annotated[int, Field(ge=1)]
    l2: Annotated[float, Field(gt=0)]
    evidence: dict[str, float]


@dataclass(frozen=True)
class Head:
    """weight: [2, d] fp32; bias: [2] fp32."""

    weight: Tensor
    bias: Tensor
    facts: HeadFacts

    @property
    def tensors(self) -> dict[str, Tensor]:
        """As a checkpoint calls them."""
        return dict(zip(TENSORS, (self.weight, self.bias), strict=True))

    def training(self) -> Training:
        """As a checkpoint's contract says it: the weights beside it were not touched."""
        facts = self.facts
        halt = HaltTraining(reads=facts.gate, threshold=facts.threshold, backbone=facts.backbone, knows=facts.knows, evidence=facts.evidence)
        return Training(losses={}, seed=facts.seed, steps=0, latent=None, halt=halt)


def write(path: Path, head: Head) -> None:
    """Write the file whole. Raises StageFailed where it cannot be."""
    from safetensors.torch import save

    facts = json.dumps(head.facts.model_dump(mode="json"), sort_keys=True)
    save_file(path, save({name: tensor.contiguous() for name, tensor in head.tensors.items()}, {METADATA: facts}))


def read(path: Path) -> Head:
    """Read a head, whoever wrote it. Raises ContractError."""
    from safetensors import safe_open

    if (size := path.stat().st_size) > MAX_BYTES:
        raise refuse(path, "", expected=f"at most {MAX_BYTES} bytes", found=f"{size} bytes", remedy=REMEDY)
    shapes = {name: entry.shape for name, entry in check_header(path).items()}
    if set(shapes) != set(TENSORS):
        raise refuse(path, "", expected=f"the tensors {' and '.join(TENSORS)}", found=", ".join(sorted(shapes)) or "none", remedy=REMEDY)
    with safe_open(str(path), framework="pt") as file:
        told = (file.metadata() or {}).get(METADATA)
        weight, bias = (file.get_tensor(name) for name in TENSORS)
    if told is None:
        raise refuse(path, f"/__metadata__/{METADATA}", expected="what the head was fitted on", found="nothing", remedy=REMEDY)
    facts = strict.validate(HeadFacts, strict.parse_json(told.encode(), str(path), remedy=REMEDY), str(path), remedy=REMEDY)
    for name, tensor, dims in zip(TENSORS, (weight, bias), (2, 1), strict=True):
        _check_tensor(path, name, tensor, dims)
    return Head(weight, bias, facts)


def _check_tensor(path: Path, name: str, tensor: Tensor, dims: int) -> None:
    import torch

    if tensor.dtype != torch.float32 or tensor.dim() != dims or tensor.shape[0] != 2:
        found = f"{tensor.dtype} of shape {list(tensor.shape)}".removeprefix("torch.")
        raise refuse(path, name, expected="fp32 with two rows", found=found, remedy=REMEDY)
    if not torch.isfinite(tensor).all():
        raise refuse(path, name, expected="finite numbers", found="others", remedy=REMEDY)


def check_wanted(file: Path, head: Head, arch: Arch, heads: ModelArch) -> None:
    """Raises ContractError, both named, for a head of another width or a checkpoint that has one."""
    found = head.weight.shape[1]
    if found != arch.d_model:
        raise refuse(file, TENSORS[0], expected=f"width {arch.d_model}, that of the checkpoint", found=f"width {found}", remedy=REMEDY)
    if heads.use_halt_head:
        raise refuse(file, "", expected="a source without a halt head", found="one that brings its own", remedy="leave out halt_head")


def check_backbone(file: Path, head: Head, tensors: Mapping[str, Tensor]) -> None:
    """Raises ContractError, both digests named, for weights that a head was not fitted on: it would read states that mean something else."""
    digest = backbone_digest(tensors)
    if head.facts.backbone != digest:
        place = f"/__metadata__/{METADATA}/backbone"
        raise refuse(file, place, expected=f"{digest}, the digest of the checkpoint's weights", found=head.facts.backbone, remedy=REMEDY)


def backbone_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over every tensor but a halt head's own, by name: `name:shape:dtype:` and the raw bytes and `|`, the guide's `sha256_state`.

    The same with and without a head: what was fitted on a plain checkpoint is recognised in the one that has it.
    """
    digest = hashlib.sha256()
    for name in sorted(set(tensors) - set(TENSORS)):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}:".encode())
        digest.update(memoryview(tensor.view(-1).numpy()).cast("B"))
        digest.update(b"|")
    return digest.hexdigest()
