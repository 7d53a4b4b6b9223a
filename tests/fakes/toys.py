"""A toy student as the guide's training leaves it: `latest.pt` with a halt head, and a small byte-level tokenizer beside it."""

from __future__ import annotations

import json
from pathlib import Path

ARCH = {
    "d_model": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_head": 16, "d_ff": 96, "vocab_size": 300, "rope_theta": 10000.0,
    "rope_scaling": None, "norm_eps": 1e-5, "tie_embeddings": False, "max_position": 512,
}  # fmt: skip
# Tools are told by their names alone: few positions, and the branch that a template may have for them.
TOOLS = "{% if tools %}{% for tool in tools %}{{ tool['function']['name'] }} {% endfor %}{% endif %}"
TEMPLATE = TOOLS + "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def write_latest(path: Path, *, halt_head: bool = True, seed: int = 0) -> Path:
    """torch.save of the guide's dictionary with random weights."""
    import torch

    from interlock.contracts.checkpoint import Arch, ModelArch
    from runtime.student.checkpoint import random_student

    heads = ModelArch(use_halt_head=halt_head)
    student = random_student(Arch(**ARCH), heads, seed)  # type: ignore[arg-type]  # plain JSON values, validated by Arch
    state = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    torch.save({"model_state_dict": state, "config": {"arch": ARCH}, "model_arch": heads.model_dump(), "step": 1000}, path)
    return path


def write_tokenizer(directory: Path) -> Path:
    """A Hugging Face tokenizer directory: 256 bytes as tokens, the chat tokens, `<bot>` and `<eot>`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    directory.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<bot>", "<eot>")])
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory
