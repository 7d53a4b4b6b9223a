"""Everything a killed training goes on from, in one file: weights that change, the optimizer's moments, averages, the best moment, the step, the log
so far.

Here: writing it atomically, reading it back for the same training only. Not here: when (loop.py). Frozen weights are those of the start, which the
identity holds to. No state of a random generator: what is drawn is drawn from seed and step. One safetensors file: no pickle, and a torn one is no
safetensors file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from interlock import fs
from interlock.canonical import canonical_json
from interlock.errors import refuse
from pipeline.training.model import Trained
from pipeline.training.sharding import like, whole

FILE = "training_state.safetensors"
REMEDY = "remove this folder to start the training over"


@dataclass
class State:
    """`step` steps are done. `average` and `best`: weights by name as they are trained, in shares or whole, empty where they are not kept;
    `best_loss` of the validation split at that moment; `waited`: evaluations since. `log`: the lines of the training's log."""

    step: int = 0
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float | None = None
    waited: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)


def identity(trained: Trained, *parts: Any) -> str:
    """The sha256 of what a training is made from, its weights before the first step and `parts`: only the same one goes on from a state."""
    whole = hashlib.sha256(canonical_json([trained.control, *parts]))
    for name, tensor in sorted(trained.state_dict().items()):
        whole.update(canonical_json([name, list(tensor.shape)]))
        whole.update(tensor.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()


def write(folder: Path, own: str, state: State, trained: Trained, optimizer: torch.optim.Optimizer, *, first: bool) -> None:
    """Replace the state in `folder`; all ranks bring their shares, the `first` writes. Raises StageFailed where there is no space; the one before is
    whole then."""
    tensors = {f"model.{name}": tensor for name, tensor in trained.changing().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    for kind in ("average", "best"):
        tensors |= {f"{kind}.{name}": tensor for name, tensor in getattr(state, kind).items()}
    tensors = {name: whole(tensor) for name, tensor in tensors.items()}
    if not first:
        return
    told = {"identity": own, "step": state.step, "best_loss": state.best_loss, "waited": state.waited, "log": state.log}
    # safetensors keeps no two names of one memory (tied weights), and no views
    copies = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    fs.save_file(folder / FILE, save(copies, {"interlock": json.dumps(told)}))


def read(folder: Path, own: str, trained: Trained, optimizer: torch.optim.Optimizer) -> State:
    """The state in `folder`, put into `trained` and `optimizer`; a new one where there is none. Raises ContractError for that of another training."""
    path = folder / FILE
    if not path.is_file():
        return State()
    try:
        with safe_open(str(path), framework="pt") as file:
            told = json.loads((file.metadata() or {})["interlock"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError, KeyError) as problem:
        raise refuse(path, "", expected="the state of a training", found=problem, remedy=REMEDY) from None
    if told["identity"] != own:
        raise refuse(path, "/identity", expected=f"{own} (these settings, rows and weights)", found=told["identity"], remedy=REMEDY)
    groups = _grouped(tensors)
    changing = trained.changing()
    weights = {kind: {name: like(one, changing[name]) for name, one in groups.get(kind, {}).items()} for kind in ("model", "average", "best")}
    trained.load_state_dict(weights["model"], strict=False)
    document = optimizer.state_dict()
    ordered = [one for group in optimizer.param_groups for one in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in groups.pop("optimizer", {}).items():
        number, _, moment = name.partition(".")
        moments.setdefault(int(number), {})[moment] = like(tensor, ordered[int(number)]) if tensor.dim() else tensor
    optimizer.load_state_dict({**document, "state": moments})
    return State(told["step"], weights["average"], weights["best"], told["best_loss"], told["waited"], told["log"])


def _grouped(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, inner = name.partition(".")
        groups.setdefault(kind, {})[inner] = tensor
    return groups
