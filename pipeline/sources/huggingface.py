"""Hugging Face directories: a model of the Llama family as `config.json` and safetensors files, as a Foreign checkpoint.

Here: the tensor names mapped to ours. Not here: the configuration (huggingface_config.py), the container (safetensors.py), the tokenizer
(tokenizer.py). Nothing in the directory is executed, and no transformers class is asked to build a model (CVE-2026-4372: on older versions
config.json alone runs code).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.contracts.checkpoint import ModelArch, Source
from interlock.contracts.io import open_regular, sha256_file
from interlock.contracts.strict import parse_json
from interlock.errors import refuse
from pipeline.sources.foreign import Foreign, TokenizerFiles
from pipeline.sources.huggingface_config import SUPPORTED, read_arch
from pipeline.sources.proofs import REMEDY, check_shapes, proven, shown
from pipeline.sources.safetensors import TensorEntry, check_header

if TYPE_CHECKING:
    import torch

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja")
MAX_INDEX = 8 << 20
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\.safetensors")

NAMES = {"model.embed_tokens": "embed", "model.norm": "norm_f", "lm_head": "lm_head"}
LAYER_NAMES = {
    "input_layernorm": "norm1",
    "self_attn.q_proj": "attn.wq",
    "self_attn.k_proj": "attn.wk",
    "self_attn.v_proj": "attn.wv",
    "self_attn.o_proj": "attn.wo",
    "self_attn.q_norm": "attn.q_norm",
    "self_attn.k_norm": "attn.k_norm",
    "post_attention_layernorm": "norm2",
    "mlp.gate_proj": "mlp.w1",
    "mlp.up_proj": "mlp.w3",
    "mlp.down_proj": "mlp.w2",
}
_LAYER = re.compile(r"model\.layers\.(0|[1-9]\d{0,3})\.(.+)\.(weight|bias)")
# Buffers of old transformers versions, computed from the configuration.
_COMPUTED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


def open_huggingface(directory: Path) -> Foreign:
    """A directory as written by `save_pretrained`, weights in fp16, bf16 or fp32. Raises ContractError with the file and key that is not so."""
    root = directory.resolve()
    arch = read_arch(_inside(root, CONFIG))
    tensors = _tensors(root)
    shapes = arch.weight_shapes(ModelArch())
    check_shapes(root, shapes, {name: entry.shape for name, (_, _, entry) in tensors.items()}, remedy=SUPPORTED)
    used = {CONFIG, *(shard.relative_to(root).as_posix() for shard, _, _ in tensors.values())}
    used |= {name for name in (INDEX, *TOKENIZER_FILES) if (root / name).exists()}
    digests = {name: sha256_file(_inside(root, name)) for name in used}

    def load(name: str) -> torch.Tensor:
        shard, foreign_name, _ = tensors[name]
        return proven(shard, foreign_name, _read(shard, foreign_name), shapes[name])

    return Foreign(
        arch=arch,
        model_arch=ModelArch(),
        step=0,
        source=Source(form="huggingface", name=root.name or "huggingface", sha256=_digest(digests)),
        shapes=shapes,
        load=load,
        tokenizer=_tokenizer(root),
    )


def _tensors(root: Path) -> dict[str, tuple[Path, str, TensorEntry]]:
    """Our name -> (file, its name there, entry). Raises ContractError for a name that the index and the files do not agree on."""
    found: dict[str, tuple[Path, str, TensorEntry]] = {}
    for shard, listed in _shards(root).items():
        path = _inside(root, shard)
        entries = check_header(path)
        if listed is not None and set(entries) != listed:
            odd = sorted(set(entries) ^ listed)[0]
            raise refuse(root / INDEX, shown(odd), expected=f"the same tensors as in `{shard}`", found="one of them only in one", remedy=REMEDY)
        for name, entry in entries.items():
            if _COMPUTED.fullmatch(name):
                continue
            if entry.dtype not in ("F16", "BF16", "F32"):
                raise refuse(path, shown(name), expected="F16, BF16 or F32", found=entry.dtype, remedy=SUPPORTED)
            found[_our_name(name)] = (path, name, entry)
    return found


def _shards(root: Path) -> dict[str, set[str] | None]:
    """Weight files and, from an index, the names each must hold."""
    if (root / SINGLE).exists():
        return {SINGLE: None}
    if not (root / INDEX).exists():
        remedy = "save the model with `save_pretrained(..., safe_serialization=True)`: pickled weights (.bin) are not read here"
        raise refuse(root, "", expected=f"`{SINGLE}` or `{INDEX}`", found="neither", remedy=remedy)
    path = _inside(root, INDEX)
    with open_regular(path) as file:
        weight_map = parse_json(file.read(MAX_INDEX + 1), str(path), limit=MAX_INDEX, remedy=REMEDY).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise refuse(path, "/weight_map", expected="an object of tensor and file names", found=shown(weight_map), remedy=REMEDY)
    shards: dict[str, set[str] | None] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not SHARD.fullmatch(shard):
            raise refuse(path, f"/weight_map/{shown(name)}", expected="a plain name `*.safetensors`", found=shown(shard), remedy=REMEDY)
        listed = shards.setdefault(shard, set())
        assert listed is not None
        listed.add(name)
    return shards


def _our_name(name: str) -> str:
    """The guide's name of a Hugging Face tensor; an unknown one gets a name that no architecture has, and is refused with the shapes."""
    stem = name.removesuffix(".weight")
    if name.endswith(".weight") and stem in NAMES:
        return f"{NAMES[stem]}.weight"
    layer = _LAYER.fullmatch(name)
    if layer and layer[2] in LAYER_NAMES:
        return f"blocks.{layer[1]}.{LAYER_NAMES[layer[2]]}.{layer[3]}"
    return f"? {name}"


def _inside(root: Path, name: str) -> Path:
    """The real file behind `name`, which must stand below `root` after all links. Raises ContractError."""
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
        raise refuse(root / name, "", expected="a file", found="nothing", remedy="name a directory written by `save_pretrained`") from None
    if not path.is_relative_to(root):
        remedy = "copy the directory with its links followed (`cp -rL`) and import the copy; the Hugging Face cache keeps links only"
        raise refuse(root / name, "", expected="a file inside the directory", found="a link that leaves it", remedy=remedy)
    return path


def _read(shard: Path, name: str) -> torch.Tensor:
    import safetensors  # with torch, only when numbers are needed

    try:
        with safetensors.safe_open(shard, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
    except (safetensors.SafetensorError, OSError) as error:
        raise refuse(shard, shown(name), expected="a readable tensor", found=shown(str(error)), remedy=REMEDY) from None
    return tensor


def _digest(digests: Mapping[str, str]) -> str:
    """sha256 over the sorted lines `sha256  name`, the form of `sha256sum`."""
    return hashlib.sha256("".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()).hexdigest()


def _tokenizer(root: Path) -> TokenizerFiles | None:
    if not (root / "tokenizer.json").exists():
        return None
    for name in TOKENIZER_FILES:
        if (root / name).exists():
            _inside(root, name)
    from pipeline.sources import tokenizer  # loads a large library, and only where a tokenizer is there

    return tokenizer.from_huggingface(root)
