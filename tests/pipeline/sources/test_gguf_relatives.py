"""Qwen2, Qwen3 and SmolLM3 in GGUF, with the names that the `gguf` library gives transformers' tensors, give the weights that were put in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.relatives import RELATIVES, relative_student, their_name

from interlock.contracts.checkpoint import ModelArch
from interlock.errors import ContractError
from pipeline.sources.gguf import open_gguf
from runtime.student.model import Student

pytestmark = pytest.mark.train

# llama.cpp knows no other rule for SmolLM3 than that each fourth layer has no rotation.
FIELDS: dict[str, dict[str, Any]] = {
    "qwen2": RELATIVES["qwen2"], "qwen3": RELATIVES["qwen3"], "smollm3": {"n_layers": 9, "d_head": 12, "no_rope_layers": (3, 7)}
}  # fmt: skip


def write(path: Path, family: str, student: Student, surplus: dict[str, torch.Tensor] | None = None, **keys: int) -> Path:
    """As llama.cpp's converter: rotary pairs of SmolLM3 side by side (its class is a kind of Llama's), those of Qwen as they are."""
    import gguf

    arch = student.arch
    kind = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(kind, arch.n_layers)
    writer = gguf.GGUFWriter(path, family)
    for add, value in (
        (writer.add_block_count, arch.n_layers), (writer.add_context_length, arch.max_position), (writer.add_embedding_length, arch.d_model),
        (writer.add_feed_forward_length, arch.d_ff), (writer.add_head_count, arch.n_heads), (writer.add_head_count_kv, arch.n_kv_heads),
        (writer.add_layer_norm_rms_eps, arch.norm_eps), (writer.add_rope_freq_base, arch.rope_theta),
    ):  # fmt: skip
        add(value)
    if family == "qwen3":
        writer.add_key_length(arch.d_head)
        writer.add_value_length(arch.d_head)
    for key, number in keys.items():
        writer.add_uint32(key.replace("__", "."), number)
    for name, tensor in {**student.state_dict(), **(surplus or {})}.items():
        if family == "smollm3" and name.endswith(("wq.weight", "wk.weight")):
            heads = arch.n_heads if "wq" in name else arch.n_kv_heads
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)  # noqa: PLW2901
        theirs, suffix = their_name(name).rsplit(".", 1)
        writer.add_tensor(f"{names.get_name(theirs) or theirs}.{suffix}", tensor.contiguous().numpy())
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FIELDS)
def test_gives_what_was_put_in(tmp_path: Path, family: str, tied: bool) -> None:
    student = relative_student(ModelArch(), norm_eps=2**-20, tie_embeddings=tied, **FIELDS[family])
    foreign = open_gguf(write(tmp_path / "m.gguf", family, student))
    assert foreign.arch == student.arch
    assert all(torch.equal(foreign.load(name), tensor) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize("family", FIELDS)
def test_what_the_family_does_not_have_is_refused(tmp_path: Path, family: str) -> None:
    student = relative_student(ModelArch(), **FIELDS[family])
    with pytest.raises(ContractError, match="no such tensor in this architecture"):
        open_gguf(write(tmp_path / "a.gguf", family, student, {"blocks.0.attn.wo.bias": torch.zeros(48)}))
    with pytest.raises(ContractError) as caught:
        open_gguf(write(tmp_path / "b.gguf", family, student, **{f"{family}__attention__sliding_window": 16}))
    assert f"{family}.attention.sliding_window" in "\n".join(caught.value.lines())


def test_biases_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        open_gguf(write(tmp_path / "m.gguf", "qwen2", relative_student(ModelArch(), d_head=12)))
    assert "blocks.2.attn.wv.bias" in "\n".join(caught.value.lines())
