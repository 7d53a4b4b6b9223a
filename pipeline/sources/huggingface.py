"""Hugging Face directories: a Llama model as `config.json` and safetensors files, as a Foreign checkpoint.

Here: the named keys of the configuration with their ranges, and the tensor names mapped to ours. Not here: the container (safetensors.py),
the tokenizer (tokenizer.py). Nothing in the directory is executed: `auto_map`, `trust_remote_code` and every unnamed key are not read, and
no transformers class is asked to build a model (CVE-2026-4372: on older versions config.json alone runs code).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from interlock.contracts.checkpoint import Arch, ModelArch, RopeScaling, Source
from interlock.contracts.io import open_regular, sha256_file
from interlock.contracts.strict import parse_json
from interlock.errors import refuse
from pipeline.sources.foreign import Foreign, TokenizerFiles
from pipeline.sources.proofs import REMEDY, build_arch, check_shapes, proven, shown
from pipeline.sources.safetensors import TensorEntry, check_header

if TYPE_CHECKING:
    import torch

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja")
MAX_CONFIG = 1 << 20
MAX_INDEX = 8 << 20
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\.safetensors")
SUPPORTED = "import a Llama model with plain weights; others are not what the runtime computes"

NAMES = {"model.embed_tokens": "embed", "model.norm": "norm_f", "lm_head": "lm_head"}
LAYER_NAMES = {
    "input_layernorm": "norm1",
    "self_attn.q_proj": "attn.wq",
    "self_attn.k_proj": "attn.wk",
    "self_attn.v_proj": "attn.wv",
    "self_attn.o_proj": "attn.wo",
    "post_attention_layernorm": "norm2",
    "mlp.gate_proj": "mlp.w1",
    "mlp.up_proj": "mlp.w3",
    "mlp.down_proj": "mlp.w2",
}
_LAYER = re.compile(r"model\.layers\.(0|[1-9]\d{0,3})\.(.+)\.weight")
# Buffers of old transformers versions, computed from the configuration.
_COMPUTED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")

# Fields of Arch, the key of each, and LlamaConfig's own default where a file may leave the key out.
KEYS: dict[str, tuple[str, object]] = {
    "d_model": ("hidden_size", None),
    "n_layers": ("num_hidden_layers", None),
    "n_heads": ("num_attention_heads", None),
    "n_kv_heads": ("num_key_value_heads", None),
    "d_head": ("head_dim", None),
    "d_ff": ("intermediate_size", None),
    "vocab_size": ("vocab_size", None),
    "norm_eps": ("rms_norm_eps", 1e-6),
    "tie_embeddings": ("tie_word_embeddings", False),
    "max_position": ("max_position_embeddings", None),
}
# Keys that must have this value where they are present, since the runtime computes nothing else.
FIXED: dict[str, object] = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "quantization_config": None}


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


def read_arch(config: Path) -> Arch:
    """The architecture in a `config.json`. Raises ContractError for another model type, an unsupported rope, a value out of range."""
    with open_regular(config) as file:
        document = parse_json(file.read(MAX_CONFIG + 1), str(config), limit=MAX_CONFIG, remedy=REMEDY)
    if "model_type" not in document:
        raise refuse(config, "/model_type", expected="`llama`", found="nothing", remedy=SUPPORTED)
    for key, value in FIXED.items():
        found = document.get(key, value)
        if found != value or type(found) is not type(value):
            raise refuse(config, f"/{key}", expected=shown(value), found=shown(found), remedy=SUPPORTED)
    fields = {field: document.get(key, default) for field, (key, default) in KEYS.items()}
    if fields["n_kv_heads"] is None:  # LlamaConfig: as many as query heads
        fields["n_kv_heads"] = fields["n_heads"]
    d_model, n_heads = fields["d_model"], fields["n_heads"]
    if fields["d_head"] is None and type(d_model) is int and type(n_heads) is int and n_heads > 0 and d_model % n_heads == 0:
        fields["d_head"] = d_model // n_heads
    fields["rope_theta"], fields["rope_scaling"] = _rope(config, document)
    return build_arch(config, fields, {field: f"/{key}" for field, (key, _) in KEYS.items()} | {"rope_theta": "/rope_theta"}, remedy=SUPPORTED)


def _rope(config: Path, document: Mapping[str, object]) -> tuple[object, RopeScaling | None]:
    """Base and scaling. transformers 5 keeps both in `rope_parameters`; before, `rope_theta` stood alone and `rope_scaling` beside it."""
    key = "rope_parameters" if document.get("rope_parameters") is not None else "rope_scaling"
    value = document.get(key)
    settings: dict[str, object] = value if isinstance(value, dict) else {}
    if value is not None and not isinstance(value, dict):
        raise refuse(config, f"/{key}", expected="an object or null", found=shown(value), remedy=SUPPORTED)
    theta = settings.get("rope_theta", document.get("rope_theta", 10000.0))  # LlamaConfig's default
    kinds = [settings[name] for name in ("rope_type", "type") if name in settings]
    kind = kinds[0] if kinds else "default"
    if kind not in ("default", "linear", "llama3") or any(other != kind for other in kinds):
        raise refuse(config, f"/{key}/rope_type", expected="`default`, `linear` or `llama3`", found=", ".join(map(shown, kinds)), remedy=SUPPORTED)
    if settings.get("partial_rotary_factor", document.get("partial_rotary_factor", 1)) != 1:
        raise refuse(config, f"/{key}/partial_rotary_factor", expected="1", found="another value", remedy=SUPPORTED)
    if kind == "default":
        return theta, None
    names = {"factor": "factor"}
    if kind == "llama3":
        names |= {name: name for name in ("low_freq_factor", "high_freq_factor")} | {"original_max_position": "original_max_position_embeddings"}
    return theta, _scaling(config, key, {"kind": kind} | {field: settings.get(name) for field, name in names.items()})


def _scaling(config: Path, key: str, fields: dict[str, object]) -> RopeScaling:
    try:
        return RopeScaling.model_validate(fields, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join([f"/{key}", *map(str, first["loc"])])
        raise refuse(config, where, expected=first["msg"], found=shown(first["input"]), remedy=SUPPORTED) from None


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
        return f"blocks.{layer[1]}.{LAYER_NAMES[layer[2]]}.weight"
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
