"""GGUF files: the Llama architecture and its relatives in them, as a Foreign checkpoint.

Here: metadata keys and tensor names of llama.cpp mapped to ours. Not here: the header's bytes (gguf_header.py), the tokenizer inside the
metadata (tokenizer.py). The numbers of a block are decoded by the `gguf` library, after its type, size and place are proven.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.contracts.checkpoint import Arch, ModelArch, RopeScaling, Source
from interlock.contracts.io import sha256_file
from interlock.errors import refuse
from pipeline.sources.foreign import Foreign
from pipeline.sources.gguf_header import BLOCKS, GgufHeader, TensorInfo, parse_header, read_header
from pipeline.sources.proofs import build_arch, check_shapes, map_file, proven, shown

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["GgufHeader", "open_gguf", "read_header"]

SUPPORTED = "convert a Llama, Mistral, Qwen2, Qwen3 or SmolLM3 model, or take its Hugging Face directory (`hf:DIR`)"
DENSE = {"F32", "F16", "BF16"}
NAMES = {"token_embd": "embed", "output_norm": "norm_f", "output": "lm_head"}
BLOCK_NAMES = {
    "attn_norm": "norm1",
    "attn_q": "attn.wq",
    "attn_k": "attn.wk",
    "attn_v": "attn.wv",
    "attn_output": "attn.wo",
    "attn_q_norm": "attn.q_norm",
    "attn_k_norm": "attn.k_norm",
    "ffn_norm": "norm2",
    "ffn_gate": "mlp.w1",
    "ffn_up": "mlp.w3",
    "ffn_down": "mlp.w2",
}
ROPE_FREQS = "rope_freqs.weight"


@dataclass(frozen=True)
class Family:
    """One `general.architecture`. adds: fields of Arch; turned: query and key are stored with rotary pairs side by side, for llama.cpp's rope of kind
    NORM (src/llama-model.cpp, `llama_model_rope_type`; `undo_permute` in its converter); unrotated: of so many layers the last has no rotation."""

    adds: Mapping[str, object] = field(default_factory=dict)
    turned: bool = True
    unrotated: int | None = None


# Mistral is `llama` there, and has no window: neither its converter nor llama.cpp knows one. SmolLM3's rule is no key but a constant of llama.cpp
# (src/models/smollm3.cpp, `n_no_rope_layer_step`).
FAMILIES = {
    "llama": Family(),
    "qwen2": Family(adds={"attention_bias": True}, turned=False),
    "qwen3": Family(adds={"qk_norm": True}, turned=False),
    "smollm3": Family(unrotated=4),
}

# Fields of Arch and the key of each below the architecture's name.
KEYS = {
    "d_model": "embedding_length",
    "n_layers": "block_count",
    "n_heads": "attention.head_count",
    "n_kv_heads": "attention.head_count_kv",
    "d_head": "attention.key_length",
    "d_ff": "feed_forward_length",
    "vocab_size": "vocab_size",
    "rope_theta": "rope.freq_base",
    "norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position": "context_length",
}
# Read elsewhere in this module, or without influence on the numbers. Any other key there could change what the model computes.
OTHER_KEYS = {
    "attention.value_length",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scale_linear",
    "tensor_data_layout",
    "expert_count",
    "expert_used_count",
}


def open_gguf(path: Path) -> Foreign:
    """A GGUF file of one of FAMILIES. Raises ContractError: a broken header, another architecture, missing or unknown tensors."""
    path = path.resolve()
    mapped = map_file(path)
    header = parse_header(path, mapped)
    meta = header.metadata
    name = _family(path, meta)
    turned = FAMILIES[name].turned
    infos = {_our_name(name): info for name, info in header.tensors.items() if name != ROPE_FREQS}
    arch = _arch(path, name, header, infos, mapped)
    shapes = arch.weight_shapes(ModelArch())
    check_shapes(path, shapes, {name: info.shape for name, info in infos.items()}, remedy=SUPPORTED)
    tokenizer = None
    if "tokenizer.ggml.model" in meta:
        from pipeline.sources import tokenizer as tokenizers  # loads a large library, and only where a tokenizer is there

        tokenizer = tokenizers.from_gguf(meta, path)
    kinds = {name: BLOCKS[info.kind][0] for name, info in infos.items()}
    return Foreign(
        arch=arch,
        model_arch=ModelArch(),
        step=0,
        source=Source(
            form="gguf", name=path.name, sha256=sha256_file(path), quantization={name: kind for name, kind in kinds.items() if kind not in DENSE}
        ),
        shapes=shapes,
        load=lambda name: _load(path, mapped, arch if turned else None, name, infos[name]),
        tokenizer=tokenizer,
        blocks=lambda name: _blocks(mapped, arch if turned else None, name, infos[name]),
    )


def _family(path: Path, meta: Mapping[str, object]) -> str:
    name = meta.get("general.architecture")
    if not isinstance(name, str) or name not in FAMILIES:
        raise refuse(path, "general.architecture", expected=", ".join(f"`{known}`" for known in FAMILIES), found=shown(name), remedy=SUPPORTED)
    if meta.get("split.count", 1) not in (0, 1):
        remedy = "join the parts with `llama-gguf-split --merge`"
        raise refuse(path, "split.count", expected="one file", found=shown(meta["split.count"]), remedy=remedy)
    if meta.get(experts := f"{name}.expert_count", 0) != 0:
        raise refuse(path, experts, expected="a dense model", found=f"{shown(meta[experts])} experts", remedy=SUPPORTED)
    known = {f"{name}.{key}" for key in (*KEYS.values(), *OTHER_KEYS)}
    for key in meta:
        if key.startswith(f"{name}.") and key not in known:
            raise refuse(path, shown(key), expected="only hyperparameters whose effect is known", found=shown(meta[key]), remedy=SUPPORTED)
    return name


def _our_name(name: str) -> str:
    """The guide's name of a llama.cpp tensor; an unknown one gets a name that no architecture has, and is refused with the shapes."""
    stem, _, suffix = name.rpartition(".")
    if suffix == "weight" and stem in NAMES:
        return f"{NAMES[stem]}.weight"
    parts = stem.split(".")
    if suffix in ("weight", "bias") and len(parts) == 3 and parts[0] == "blk" and parts[2] in BLOCK_NAMES:
        return f"blocks.{parts[1]}.{BLOCK_NAMES[parts[2]]}.{suffix}"
    return f"? {name}"


def _arch(path: Path, name: str, header: GgufHeader, infos: Mapping[str, TensorInfo], mapped: mmap.mmap) -> Arch:
    meta, family = header.metadata, FAMILIES[name]
    fields: dict[str, object] = {known: meta.get(f"{name}.{key}") for known, key in KEYS.items()}
    if fields["n_kv_heads"] is None:  # llama.cpp: as many as query heads
        fields["n_kv_heads"] = fields["n_heads"]
    if fields["vocab_size"] is None and "embed.weight" in infos:
        fields["vocab_size"] = infos["embed.weight"].shape[0]
    if fields["rope_theta"] is None:
        fields["rope_theta"] = 10000.0  # llama.cpp's default; the key is left out by old converters only
    d_model, n_heads = fields["d_model"], fields["n_heads"]
    if fields["d_head"] is None and type(d_model) is int and type(n_heads) is int and n_heads > 0 and d_model % n_heads == 0:
        fields["d_head"] = d_model // n_heads
    fields |= {"tie_embeddings": "lm_head.weight" not in infos, "rope_scaling": _linear_scaling(path, name, meta), **family.adds}
    arch = build_arch(path, fields, {known: f"{name}.{key}" for known, key in KEYS.items()}, remedy=SUPPORTED)
    if family.unrotated:
        arch = arch.model_copy(update={"no_rope_layers": tuple(range(family.unrotated - 1, arch.n_layers, family.unrotated))})
    for key in (f"{name}.rope.dimension_count", f"{name}.attention.value_length"):
        if meta.get(key, arch.d_head) != arch.d_head:
            raise refuse(path, key, expected=f"the head width {arch.d_head}", found=shown(meta[key]), remedy=SUPPORTED)
    if ROPE_FREQS not in header.tensors:
        return arch
    return arch.model_copy(update={"rope_scaling": _llama3_scaling(path, arch, header.tensors[ROPE_FREQS], mapped)})


def _linear_scaling(path: Path, name: str, meta: Mapping[str, object]) -> RopeScaling | None:
    kind = meta.get(f"{name}.rope.scaling.type", "linear" if f"{name}.rope.scale_linear" in meta else "none")
    factor = meta.get(f"{name}.rope.scaling.factor", meta.get(f"{name}.rope.scale_linear", 1.0))
    if kind not in ("none", "linear"):
        raise refuse(path, f"{name}.rope.scaling.type", expected="`none` or `linear`", found=shown(kind), remedy=SUPPORTED)
    if not isinstance(factor, float) or not 1 <= factor <= 1024:
        raise refuse(path, f"{name}.rope.scaling.factor", expected="a factor from 1 to 1024", found=shown(factor), remedy=SUPPORTED)
    return RopeScaling(kind="linear", factor=factor) if kind == "linear" and factor != 1 else None


def _llama3_scaling(path: Path, arch: Arch, info: TensorInfo, mapped: mmap.mmap) -> RopeScaling:
    """The llama3 scaling whose factors the tensor holds, if it is that of a published model.

    The tensor has d_head/2 fp32 divisors of the rotary frequencies; the parameters they came from are not stored. All published Llama 3.x
    models use low 1, high 4, original length 8192 and differ in `factor`, which is the last divisor: so the tensor is computed again and compared.
    Formula: transformers `_compute_llama3_parameters`, as llama.cpp's convert_hf_to_gguf.py writes it.
    """
    half = arch.d_head // 2
    if info.kind != 0 or info.shape != (half,) or arch.rope_scaling is not None:
        found = f"{BLOCKS[info.kind][0]} {list(info.shape)}"
        raise refuse(path, ROPE_FREQS, expected=f"F32 {[half]}, and no other scaling", found=found, remedy=SUPPORTED)
    divisors = struct.unpack_from(f"<{half}f", mapped, info.begin)
    factor, low, high, original = divisors[-1], 1.0, 4.0, 8192
    known = 1 <= factor <= 1024
    expected = []
    for i in range(half if known else 0):
        turns = original / (2 * math.pi * arch.rope_theta ** (2 * i / arch.d_head))  # full turns within the original length
        smooth = (turns - low) / (high - low)
        expected.append(1.0 if turns > high else factor if turns < low else 1 / ((1 - smooth) / factor + smooth))
    if not known or any(not math.isclose(a, b, rel_tol=1e-5) for a, b in zip(divisors, expected, strict=True)):
        raise refuse(
            path,
            ROPE_FREQS,
            expected="the factors of a published Llama 3 scaling (low 1, high 4, original length 8192)",
            found="other factors, whose parameters the file does not hold",
            remedy="import the model from its Hugging Face directory (`hf:DIR`), where config.json has the parameters",
        )
    return RopeScaling(kind="llama3", factor=factor, low_freq_factor=low, high_freq_factor=high, original_max_position=original)


def _load(path: Path, mapped: mmap.mmap, turned: Arch | None, name: str, info: TensorInfo) -> torch.Tensor:
    import gguf  # only the environment `train` has it
    import numpy as np
    import torch

    blocks = _stored_rows(mapped, info)
    with np.errstate(all="ignore"):  # a hostile scale may overflow: `proven` refuses what comes out
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType(info.kind)).astype(np.float32)  # a copy: the map is read-only
    tensor = proven(path, name, torch.from_numpy(values), info.shape)
    return _in_our_order(tensor, turned, name)


def _blocks(mapped: mmap.mmap, turned: Arch | None, name: str, info: TensorInfo) -> torch.Tensor:
    """The rows as stored, uint8 [rows, bytes]: blocks lie along a row, so that rows can change their order and blocks stay whole."""
    import torch

    return _in_our_order(torch.from_numpy(_stored_rows(mapped, info).copy()), turned, name)


def _stored_rows(mapped: mmap.mmap, info: TensorInfo) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer(mapped, np.uint8, info.size_bytes, info.begin).reshape(math.prod(info.shape[:-1]), -1)


def _in_our_order(rows: torch.Tensor, turned: Arch | None, name: str) -> torch.Tensor:
    """turned: the architecture, where the family's queries and keys are."""
    if turned is None:
        return rows
    heads = {"attn.wq.weight": turned.n_heads, "attn.wk.weight": turned.n_kv_heads}.get(name.partition(".")[2].partition(".")[2])
    return _unpermute(rows, heads) if heads else rows


def _unpermute(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key projection [heads * d_head, any] from interleaved rotary pairs (2i, 2i+1) to halves (i, i + d_head/2).

    The inverse of `LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py.
    """
    width = rows.shape[0] // heads
    return rows.reshape(heads, width // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape).contiguous()
