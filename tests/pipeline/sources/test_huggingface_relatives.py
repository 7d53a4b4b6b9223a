"""Directories of Qwen2, Qwen3, Mistral and SmolLM3: what transformers writes is read, what it would compute and the student does not is refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.relatives import RELATIVES, relative_student, settings, their_name, twin
from fakes.students import tiny_arch
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from interlock.contracts.checkpoint import Arch, ModelArch
from interlock.errors import ContractError
from pipeline.sources.huggingface import open_huggingface
from pipeline.sources.huggingface_config import read_arch

SMALL = {"n_layers": 4, "max_position": 64}


def arch_of(folder: Path, family: str, **changes: Any) -> Arch:
    """Of a configuration with these changes; None leaves a key out."""
    config = {"model_type": family, **settings(tiny_arch(**SMALL, **RELATIVES[family]), family), **changes}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return read_arch(folder / "config.json")


@pytest.mark.train
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", RELATIVES)
def test_reads_what_transformers_writes(tmp_path: Path, family: str, tied: bool) -> None:
    student = relative_student(ModelArch(), tie_embeddings=tied, **RELATIVES[family])
    twin(student, family).save_pretrained(tmp_path / "m")
    foreign = open_huggingface(tmp_path / "m")
    assert foreign.arch == student.arch
    assert all(torch.equal(foreign.load(name), tensor) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize("family", RELATIVES)
def test_a_missing_or_surplus_tensor_of_the_family_is_refused(tmp_path: Path, family: str) -> None:
    from safetensors.torch import save_file

    tensors = {their_name(name): tensor.clone() for name, tensor in relative_student(ModelArch(), **SMALL, **RELATIVES[family]).state_dict().items()}
    arch_of(tmp_path, family)
    for surplus in ("o_proj.bias", "o_norm.weight", "v_norm.weight", "q_norm.bias"):
        save_file(tensors | {f"model.layers.1.self_attn.{surplus}": torch.zeros(16)}, tmp_path / "model.safetensors")
        with pytest.raises(ContractError, match="no such tensor in this architecture"):
            open_huggingface(tmp_path)
    for own in (name for name in tensors if name.startswith("model.layers.3.self_attn")):
        save_file({name: tensor for name, tensor in tensors.items() if name != own}, tmp_path / "model.safetensors")
        with pytest.raises(ContractError, match="no such tensor"):
            open_huggingface(tmp_path)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a window in some layers": ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2}, "one in 2 of 4 layers"),
    "the same by type": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"] * 2},
        "one in 2",
    ),
    "a window of 0": ("mistral", {"sliding_window": 0}, "/sliding_window"),
    "a window of half a position": ("mistral", {"sliding_window": 2.5}, "/sliding_window"),
    "a window that is true": ("qwen2", {"use_sliding_window": True, "sliding_window": True, "max_window_layers": 0}, "/sliding_window"),
    "perhaps a window": ("qwen2", {"use_sliding_window": 1}, "/use_sliding_window"),
    "layers below nothing": ("qwen2", {"use_sliding_window": True, "max_window_layers": -1}, "/max_window_layers"),
    "types of other layers": ("qwen3", {"layer_types": ["full_attention", "linear_attention"] * 2}, "/layer_types"),
    "types of too few layers": ("qwen3", {"layer_types": ["full_attention"]}, "/layer_types"),
    "types that are no list": ("smollm3", {"layer_types": {"0": "full_attention"}}, "/layer_types"),
    "types that Mistral does not read": ("mistral", {"layer_types": ["full_attention", "sliding_attention"] * 2}, "/layer_types"),
    "sliding without a window": ("qwen2", {"layer_types": ["sliding_attention"] * 4}, "/layer_types"),
    "a window where nothing rotates": ("smollm3", {"use_sliding_window": True, "sliding_window": 8}, "one in 2 of 4 layers"),
    "biases also of the output": ("qwen3", {"attention_bias": True}, "/attention_bias"),
    "biases of SmolLM3": ("smollm3", {"attention_bias": True}, "/attention_bias"),
    "biases in the MLP": ("smollm3", {"mlp_bias": True}, "/mlp_bias"),
    "another activation": ("qwen2", {"hidden_act": "gelu"}, "/hidden_act"),
    "yarn": ("qwen2", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}}, "yarn"),
    "rotation in half a layer": ("smollm3", {"no_rope_layers": [1, 0.5, 1, 1]}, "/no_rope_layers"),
    "rotation as true": ("smollm3", {"no_rope_layers": [True, False, True, True]}, "/no_rope_layers"),
    "rotation of too few layers": ("smollm3", {"no_rope_layers": [1, 0]}, "/no_rope_layers"),
    "no layer by name": ("smollm3", {"no_rope_layers": "0,3"}, "/no_rope_layers"),
    "each 0th layer": ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 0}, "/no_rope_layer_interval"),
    "each layer by halves": ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 1.5}, "/no_rope_layer_interval"),
    "experts": ("qwen3", {"model_type": "qwen3_moe"}, "/model_type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_by_name_what_would_change_the_computation(tmp_path: Path, name: str) -> None:
    family, changes, word = REFUSED[name]
    with pytest.raises(ContractError) as caught:
        arch_of(tmp_path, family, **changes)
    assert word in "\n".join(caught.value.lines())


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda some: st.lists(some, max_size=5))


@profile(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(RELATIVES)),
    st.dictionaries(
        st.sampled_from(["layer_types", "max_window_layers", "no_rope_layer_interval", "no_rope_layers", "sliding_window", "use_sliding_window"]),
        VALUES,
    ),
)
def test_any_value_in_any_key_of_the_relatives_is_read_or_refused_never_more(tmp_path: Path, family: str, said: dict[str, object]) -> None:
    with contextlib.suppress(ContractError):
        arch_of(tmp_path, family, **said)


@pytest.mark.train
@pytest.mark.parametrize("family", RELATIVES)
def test_keys_that_are_left_out_mean_what_they_mean_to_transformers(tmp_path: Path, family: str) -> None:
    from transformers import AutoConfig

    bare = {"hidden_size": 4096, "intermediate_size": 64, "num_hidden_layers": 9, "num_attention_heads": 32, "vocab_size": 48,
            "max_position_embeddings": 8192}  # fmt: skip
    theirs = AutoConfig.for_model(family, **bare)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, **bare}))
    ours = read_arch(tmp_path / "config.json")
    assert ours.n_kv_heads == theirs.num_key_value_heads and ours.norm_eps == theirs.rms_norm_eps
    assert ours.d_head == (getattr(theirs, "head_dim", None) or 4096 // 32) and ours.tie_embeddings == theirs.tie_word_embeddings
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"] and ours.sliding_window == theirs.sliding_window
    flags = getattr(theirs, "no_rope_layers", [1] * 9)
    assert ours.no_rope_layers == tuple(layer for layer in range(9) if not flags[layer])


@pytest.mark.train
@profile(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(RELATIVES)), st.none() | st.booleans(), st.none() | st.integers(1, 80), st.integers(0, 5), st.none() | st.integers(1, 5)
)
def test_windows_are_those_of_transformers_or_refused_because_layers_differ(
    tmp_path: Path, family: str, use: bool | None, window: int | None, full: int, interval: int | None
) -> None:
    from transformers import AutoConfig

    said: dict[str, Any] = {"use_sliding_window": bool(use), "sliding_window": window, "max_window_layers": full}
    rotation = {"no_rope_layers": None, "no_rope_layer_interval": interval or 4} if family == "smollm3" else {}
    base = settings(tiny_arch(**SMALL, **RELATIVES[family]), family)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, **base, **said, **rotation}))
    theirs = AutoConfig.for_model(family, **{**base, **said, **rotation})
    sliding = [window is not None] * 4 if family == "mistral" else [kind == "sliding_attention" for kind in theirs.layer_types]
    reached = [slides and theirs.sliding_window < 64 for slides in sliding]
    if any(reached) and not all(reached):
        with pytest.raises(ContractError, match="in every layer or in none"):
            read_arch(tmp_path / "config.json")
    else:
        assert read_arch(tmp_path / "config.json").sliding_window == (theirs.sliding_window if any(reached) else None)
