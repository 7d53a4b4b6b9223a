"""A small student as a quantised GGUF file. Environment `train` only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fakes.students import compressible_student


def write_gguf(path: Path, kinds: Mapping[str, str]) -> Path:
    """The tensors of the compressible student, each of its kind, the others F32. The library's own writer and
    quantisers; queries and keys as llama.cpp stores them, rotary pairs side by side."""
    import gguf

    from pipeline.sources.gguf import BLOCK_NAMES, NAMES

    student = compressible_student()
    arch, theirs = student.arch, {ours: name for name, ours in (NAMES | BLOCK_NAMES).items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(arch.n_layers)
    writer.add_context_length(arch.max_position)
    writer.add_embedding_length(arch.d_model)
    writer.add_feed_forward_length(arch.d_ff)
    writer.add_head_count(arch.n_heads)
    writer.add_head_count_kv(arch.n_kv_heads)
    writer.add_key_length(arch.d_head)
    writer.add_layer_norm_rms_eps(arch.norm_eps)
    writer.add_rope_freq_base(arch.rope_theta)
    writer.add_vocab_size(arch.vocab_size)
    for name, tensor in student.state_dict().items():
        parts = name.removesuffix(".weight").split(".", 2)
        heads = {"attn.wq": arch.n_heads, "attn.wk": arch.n_kv_heads}.get(parts[-1])
        rows = tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape) if heads else tensor
        kind = gguf.GGMLQuantizationType[kinds.get(name, "F32")]
        called = f"blk.{parts[1]}.{theirs[parts[2]]}.weight" if parts[0] == "blocks" else f"{theirs[parts[0]]}.weight"
        writer.add_tensor(called, gguf.quants.quantize(rows.contiguous().numpy(), kind), raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path
