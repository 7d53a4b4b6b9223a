"""Students of the Llama family's relatives, and the same models in transformers."""

from __future__ import annotations

from typing import Any

import torch
from fakes.students import BOTH_HEADS, tiny_student

from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.student.model import Student

# What each adds. Grouped queries everywhere; heads that are not d_model / n_heads wide but in Qwen2, which has no field for that.
RELATIVES: dict[str, dict[str, Any]] = {
    "qwen2": {"attention_bias": True, "d_head": 12},
    "qwen3": {"qk_norm": True},
    "mistral": {"sliding_window": 24},
    "smollm3": {"no_rope_layers": (0, 2)},
}
# No model has all of it, but any of it must go with the rest.
ALL: dict[str, Any] = {name: value for fields in RELATIVES.values() for name, value in fields.items() if name != "d_head"}

THEIR_NAMES = {
    "embed.": "model.embed_tokens.", "norm_f.": "model.norm.", "blocks.": "model.layers.", "norm1.": "input_layernorm.",
    "norm2.": "post_attention_layernorm.", "attn.": "self_attn.", "wq.": "q_proj.", "wk.": "k_proj.", "wv.": "v_proj.", "wo.": "o_proj.",
    "w1.": "gate_proj.", "w3.": "up_proj.", "w2.": "down_proj.",
}  # fmt: skip


def relative_student(heads: ModelArch = BOTH_HEADS, **changes: Any) -> Student:
    """A tiny student whose norms are not 1 and whose biases are not 0, so that one that is left out shows."""
    student = tiny_student(heads, **changes)
    random = torch.Generator().manual_seed(3)
    for name, parameter in student.named_parameters():
        if parameter.dim() == 1:
            parameter.data += 0.4 * torch.randn(parameter.shape, generator=random)
            assert name.endswith((".bias", "norm1.weight", "norm2.weight", "q_norm.weight", "k_norm.weight", "norm_f.weight"))
    return student


def twin(student: Student, family: str = "llama") -> Any:
    """transformers' model of a family with the student's architecture and weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings(student.arch, family)))
    weights = {their_name(name): tensor.clone() for name, tensor in student.state_dict().items() if not name.startswith(("halt_", "eval_"))}
    if student.arch.tie_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def settings(arch: Arch, family: str) -> dict[str, Any]:
    """The configuration in transformers' words."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": arch.rope_theta}
    if arch.rope_scaling is not None:
        scaling = arch.rope_scaling.model_dump(exclude_none=True)
        rope |= {"rope_type": scaling.pop("kind"), **scaling}
        if "original_max_position" in rope:
            rope["original_max_position_embeddings"] = rope.pop("original_max_position")
    own: dict[str, dict[str, Any]] = {
        "mistral": {"sliding_window": arch.sliding_window},
        "smollm3": {"no_rope_layers": [int(layer not in arch.no_rope_layers) for layer in range(arch.n_layers)]},
    }
    return {
        "hidden_size": arch.d_model, "num_hidden_layers": arch.n_layers, "num_attention_heads": arch.n_heads,
        "num_key_value_heads": arch.n_kv_heads, "intermediate_size": arch.d_ff, "vocab_size": arch.vocab_size,
        "max_position_embeddings": arch.max_position, "rms_norm_eps": arch.norm_eps, "tie_word_embeddings": arch.tie_embeddings,
        "rope_parameters": rope, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
        **({} if family == "qwen2" else {"head_dim": arch.d_head}), **own.get(family, {}),
    }  # fmt: skip


def their_name(name: str) -> str:
    for ours, theirs in THEIR_NAMES.items():
        name = name.replace(ours, theirs)
    return name
