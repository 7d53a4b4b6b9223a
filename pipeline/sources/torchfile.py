"""Training checkpoints (`latest.pt`): the guide's `torch.save` dictionary, as a Foreign checkpoint.

Here: which keys the dictionary must have, and that each tensor lies inside its storage. Not here: the container (torch_zip.py), the pickle
in it (pickle_machine.py). torch is given bytes of proven size, never the file.
Keys: the guide's production and toy checkpoints; optimizer, loss and generator states are not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from interlock.contracts.checkpoint import OF_RELATIVES, Arch, ModelArch, RopeScaling, Source
from interlock.contracts.io import sha256_file
from interlock.errors import ContractError, Violation, refuse
from pipeline.sources.foreign import Foreign
from pipeline.sources.pickle_machine import MAX_BYTES, TensorRecord, read_pickle
from pipeline.sources.proofs import build_arch, check_shapes, proven, shown
from pipeline.sources.torch_zip import TorchZip, open_zip

if TYPE_CHECKING:
    import torch

SAVE_AGAIN = "save the checkpoint with its architecture: {'model_state_dict': ..., 'config': {'arch': {...}}, 'model_arch': {...}, 'step': ...}"
FLOATS = {"float32", "float16", "bfloat16", "float64"}

# Fields of Arch and the keys that may hold each, the guide's own name first.
KEYS = {
    "d_model": ("d_model", "hidden_size"),
    "n_layers": ("n_layers",),
    "n_heads": ("n_heads",),
    "n_kv_heads": ("n_kv_heads",),
    "d_head": ("d_head",),
    "d_ff": ("d_ff",),
    "vocab_size": ("vocab_size",),
    "rope_theta": ("rope_theta",),
    "norm_eps": ("norm_eps",),
    "max_position": ("max_position", "max_seq_len"),
    **{field: (field,) for field in OF_RELATIVES},
}
GUIDE_NORM_EPS = 1e-6  # the guide's model has it as a constant and does not store it


def open_torch(path: Path) -> Foreign:
    """A `.pt` training checkpoint. Raises ContractError: code in the pickle, a tensor outside its record, missing fields, heads that disagree."""
    path = path.resolve()
    archive = open_zip(path)
    if "byteorder" in archive.members and (order := archive.read("byteorder", 16)) != b"little":  # torch before 2.1 writes none
        raise refuse(path, "byteorder", expected="`little`", found=shown(order), remedy=SAVE_AGAIN)
    document = _section(path, {"": read_pickle(archive.read("data.pkl", MAX_BYTES), path)}, "")
    state = _state(path, archive, document)
    config = _section(path, document, "config")
    model_arch = _model_arch(path, _section(path, document, "model_arch"), config, state)
    arch = _arch(path, _section(path, config, "arch", "/config"), state)
    shapes = arch.weight_shapes(model_arch)
    found = {name: record.shape for name, record in state.items()}
    if arch.tie_embeddings:
        found.pop("lm_head.weight", None)  # `_arch` has seen that it is the embedding's own tensor
    check_shapes(path, shapes, found, remedy="the architecture in `config.arch` and the tensors must describe the same model")
    return Foreign(
        arch=arch,
        model_arch=model_arch,
        step=_step(path, document),
        source=Source(form="torch", name=path.name, sha256=sha256_file(path)),
        shapes=shapes,
        load=lambda name: _load(archive, name, state[name]),
        tokenizer=None,
    )


def _section(path: Path, parent: Mapping[str, object], key: str, place: str = "") -> dict[str, object]:
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or any(not isinstance(name, str) for name in value):
        raise refuse(path, f"{place}/{key}", expected="a dict with names as keys", found=shown(value), remedy=SAVE_AGAIN)
    return value


def _state(path: Path, archive: TorchZip, document: Mapping[str, object]) -> dict[str, TensorRecord]:
    state = _section(path, document, "model_state_dict")
    if not state:
        raise refuse(path, "/model_state_dict", expected="the model's tensors", found="nothing", remedy=SAVE_AGAIN)
    storages: dict[str, object] = {}
    tensors: dict[str, TensorRecord] = {}
    for name, value in state.items():
        if not isinstance(value, TensorRecord) or value.storage.dtype not in FLOATS:
            found = f"a {value.storage.dtype} tensor" if isinstance(value, TensorRecord) else shown(value)
            raise refuse(path, f"/model_state_dict/{shown(name)}", expected="a tensor of floats", found=found, remedy=SAVE_AGAIN)
        _check_record(path, archive, name, value)
        if storages.setdefault(value.storage.key, value.storage) != value.storage:
            raise refuse(path, shown(name), expected="one type and size per storage", found="a storage seen as two", remedy=SAVE_AGAIN)
        tensors[name] = value
    return tensors


def _check_record(path: Path, archive: TorchZip, name: str, record: TensorRecord) -> None:
    """The storage is exactly its member; the last element lies inside; no element is counted twice, so that a small file stays small in memory."""
    storage = record.storage
    member = archive.members.get(f"data/{storage.key}")
    if member is None or member.size != storage.numel * storage.width:
        found = f"{member.size} bytes" if member else "no such member"
        expected = f"member data/{shown(storage.key)} of {storage.numel * storage.width} bytes"
        raise refuse(path, shown(name), expected=expected, found=found, remedy=SAVE_AGAIN)
    count = math.prod(record.shape)
    if count < 1 or _last(record) >= storage.numel or count > storage.numel:
        found = f"shape {list(record.shape)}, strides {list(record.strides)}, offset {record.offset}"
        raise refuse(path, shown(name), expected=f"a view inside {storage.numel} elements", found=found, remedy=SAVE_AGAIN)


def _model_arch(path: Path, declared: Mapping[str, object], config: Mapping[str, object], state: Mapping[str, TensorRecord]) -> ModelArch:
    """The optional heads. `model_arch` is the truth, `config` its older place. The tensors must agree, and decide where both are silent."""
    flags: dict[str, bool] = {}
    violations = []
    for flag, head in (("use_halt_head", "halt_head"), ("use_self_evaluation", "eval_head")):
        present = any(name.startswith(f"{head}.") for name in state)
        place, told = ("/model_arch", declared[flag]) if flag in declared else ("/config", config.get(flag, present))
        if not isinstance(told, bool):
            violations.append(Violation(str(path), f"{place}/{flag}", "true or false", shown(told)))
        elif told != present:
            tensors = f"{'tensors' if present else 'no tensor'} `{head}.*` in `model_state_dict`"
            violations.append(Violation(str(path), f"{place}/{flag}", f"the flag and the tensors to agree ({flag} is {told})", tensors))
        flags[flag] = present
    if violations:
        raise ContractError(*violations, remedy="correct the flag where the checkpoint is written; the heads are not guessed")
    return ModelArch(**flags)


def _arch(path: Path, found: Mapping[str, object], state: Mapping[str, TensorRecord]) -> Arch:
    fields: dict[str, object] = {field: next((found[key] for key in keys if found.get(key) is not None), None) for field, keys in KEYS.items()}
    first = state.get("blocks.0.mlp.w1.weight")
    if fields["d_ff"] is None and first is not None:
        fields["d_ff"] = first.shape[0]
    if fields["norm_eps"] is None:
        fields["norm_eps"] = GUIDE_NORM_EPS
    head = state.get("lm_head.weight")
    tied = head is None or head == state.get("embed.weight")  # the state_dict of a tied model names one storage twice
    fields["tie_embeddings"] = tied if found.get("tie_embeddings") is None else found["tie_embeddings"]
    fields["rope_scaling"] = _rope_scaling(path, found.get("rope_scaling"))
    if isinstance(fields["no_rope_layers"], list):  # as JSON has it; a strict tuple takes none
        fields["no_rope_layers"] = tuple(fields["no_rope_layers"])
    if fields["tie_embeddings"] is True and not tied:
        raise refuse(
            path, "/config/arch/tie_embeddings", expected="true with one tensor for both", found="another `lm_head.weight`", remedy=SAVE_AGAIN
        )
    return build_arch(path, fields, {field: f"/config/arch/{keys[0]}" for field, keys in KEYS.items()}, remedy=SAVE_AGAIN)


def _rope_scaling(path: Path, value: object) -> RopeScaling | None:
    """The guide's words, or our own record. The guide's model computes `linear` as `none`: so do the weights."""
    if value is None or value in ("none", "linear"):
        return None
    place = "/config/arch/rope_scaling"
    if not isinstance(value, dict):
        remedy = "train with `none`: `dynamic` changes the frequencies with the length, which a cached key cannot follow"
        raise refuse(path, place, expected="`none`, `linear`, or a dict of kind and factors", found=shown(value), remedy=remedy)
    try:
        return RopeScaling.model_validate(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join([place, *(str(part) if part in RopeScaling.model_fields else shown(part) for part in first["loc"])])
        raise refuse(path, where, expected=first["msg"], found=shown(first["input"]), remedy=SAVE_AGAIN) from None


def _step(path: Path, document: Mapping[str, object]) -> int:
    step = document.get("step", _section(path, document, "meta").get("step", 0))
    if type(step) is not int or step < 0:
        raise refuse(path, "/step", expected="an integer of 0 or more", found=shown(step), remedy=SAVE_AGAIN)
    return step


def _load(archive: TorchZip, name: str, record: TensorRecord) -> torch.Tensor:
    import torch

    width = record.storage.width
    view = archive.view(f"data/{record.storage.key}")[record.offset * width : (_last(record) + 1) * width]
    flat = torch.frombuffer(bytearray(view), dtype=getattr(torch, record.storage.dtype))  # a copy: torch wants memory that may be written
    return proven(archive.path, name, flat.as_strided(record.shape, record.strides), record.shape)


def _last(record: TensorRecord) -> int:
    """Index in the storage of the tensor's last element."""
    return record.offset + sum((size - 1) * stride for size, stride in zip(record.shape, record.strides, strict=True))
