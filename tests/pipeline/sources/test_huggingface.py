"""A Hugging Face directory of a Llama gives the weights that transformers wrote; its configuration is data, and only a plain Llama is one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import foreign_files as make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError
from pipeline.sources.huggingface import LAYER_NAMES, NAMES, open_huggingface
from pipeline.sources.huggingface_config import read_arch

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 48, "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
OURS = {ours: theirs for theirs, ours in (NAMES | LAYER_NAMES).items()}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


def their_name(name: str) -> str:
    parts = name.removesuffix(".weight").split(".", 2)
    return f"model.layers.{parts[1]}.{OURS[parts[2]]}.weight" if parts[0] == "blocks" else f"{OURS[parts[0]]}.weight"


def directory(path: Path, weights: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    """A directory by hand; a change of None leaves a key out."""
    from safetensors.torch import save_file

    path.mkdir(exist_ok=True)
    config = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))
    save_file({their_name(name): tensor for name, tensor in make.tensors().items()} if weights is None else weights, path / "model.safetensors")
    return path


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another model": ({"model_type": "gemma"}, "/model_type"),
    "no model type": ({"model_type": None}, "/model_type"),
    "remote code instead of a type": ({"model_type": "custom", "auto_map": {"AutoModel": "evil.Model"}}, "/model_type"),
    "hidden_size 10^12": ({"hidden_size": 10**12}, "/hidden_size"),
    "hidden_size negative": ({"hidden_size": -32}, "/hidden_size"),
    "hidden_size a string": ({"hidden_size": "32"}, "/hidden_size"),
    "hidden_size true": ({"hidden_size": True}, "/hidden_size"),
    "hidden_size an object": ({"hidden_size": {"a": 1}}, "/hidden_size"),
    "layers 10^9": ({"num_hidden_layers": 10**9}, "/num_hidden_layers"),
    "layers missing": ({"num_hidden_layers": None}, "/num_hidden_layers"),
    "heads 0": ({"num_attention_heads": 0}, "/num_attention_heads"),
    "heads that do not divide": ({"num_attention_heads": 5}, "/head_dim"),
    "key heads that do not divide": ({"num_key_value_heads": 3}, "multiple"),
    "odd head": ({"head_dim": 7}, "/head_dim"),
    "epsilon 0": ({"rms_norm_eps": 0.0}, "/rms_norm_eps"),
    "epsilon huge": ({"rms_norm_eps": 1e300}, "/rms_norm_eps"),
    "theta negative": ({"rope_theta": -1.0}, "/rope_theta"),
    "theta a list": ({"rope_theta": [1.0]}, "/rope_theta"),
    "another activation": ({"hidden_act": "gelu"}, "/hidden_act"),
    "biases": ({"attention_bias": True}, "/attention_bias"),
    "biases in the MLP": ({"mlp_bias": True}, "/mlp_bias"),
    "quantized by others": ({"quantization_config": {"quant_method": "gptq"}}, "/quantization_config"),
    "tie a number": ({"tie_word_embeddings": 1}, "/tie_word_embeddings"),
    "dynamic rope": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
    "yarn, new form": ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "yarn"),
    "two rope types": ({"rope_scaling": {"type": "linear", "rope_type": "llama3", "factor": 2.0}}, "rope_type"),
    "rope type an object": ({"rope_scaling": {"type": {}, "factor": 2.0}}, "rope_type"),
    "rope a string": ({"rope_scaling": "linear"}, "/rope_scaling"),
    "linear without factor": ({"rope_scaling": {"type": "linear"}}, "/rope_scaling/factor"),
    "linear by 0.5": ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "/rope_scaling/factor"),
    "llama3 without length": ({"rope_scaling": {**LLAMA3, "original_max_position_embeddings": None}}, "original_max_position"),
    "part of the head rotated": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_is_no_plain_llama(tmp_path: Path, name: str) -> None:
    changes, word = REFUSED[name]
    with pytest.raises(ContractError) as caught:
        open_huggingface(directory(tmp_path / "m", **changes))
    assert word in "\n".join(caught.value.lines())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b'{"a":1,"a":2}',
        b'{"rms_norm_eps":NaN}',
        b'{"a":1e999}',
        b"\xff{}",
        b'{"a":' + b"[" * 90_000,
        b'{"a":"' + b"x" * (2 << 20) + b'"}',
    ],
)
def test_refuses_a_configuration_that_is_not_strict_json(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "config.json").write_bytes(raw)
    with pytest.raises(ContractError):
        read_arch(tmp_path / "config.json")


def test_code_named_in_the_configuration_is_not_read(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    root = directory(
        tmp_path / "m",
        auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
        trust_remote_code=True,
        _attn_implementation_internal="evil/kernel",
    )
    (root / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    assert open_huggingface(root).arch == make.TINY and not canary.exists()


@pytest.mark.parametrize("change", ["missing", "unknown", "bias", "our own name", "newline", "int64", "transposed"])
def test_refuses_other_tensors(tmp_path: Path, change: str) -> None:
    weights = {their_name(name): tensor for name, tensor in make.tensors().items()}
    if change == "missing":
        del weights["model.layers.1.mlp.up_proj.weight"]
    elif change == "int64":
        weights["model.norm.weight"] = torch.ones(32, dtype=torch.int64)
    elif change == "transposed":
        weights["model.layers.1.mlp.up_proj.weight"] = weights["model.layers.1.mlp.up_proj.weight"].T.contiguous()
    else:
        odd = {"unknown": "x", "bias": "model.layers.0.self_attn.q_proj.bias", "our own name": "embed.weight", "newline": "model.norm.weight\n"}
        weights[odd[change]] = torch.zeros(32)
    with pytest.raises(ContractError):
        open_huggingface(directory(tmp_path / "m", weights))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_refuses_a_link_that_leaves_the_directory(tmp_path: Path, name: str) -> None:
    root = directory(tmp_path / "m")
    outside = tmp_path / "outside"
    outside.write_bytes((root / name).read_bytes() if (root / name).exists() else b"{}")
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(outside)
    with pytest.raises(ContractError, match="inside the directory"):
        open_huggingface(root)


def test_follows_a_link_that_stays_inside(tmp_path: Path) -> None:
    root = directory(tmp_path / "m")
    (root / "model.safetensors").rename(root / "blob")
    (root / "model.safetensors").symlink_to("blob")
    assert open_huggingface(root).arch == make.TINY


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", "x.safetensors\n", "..safetensors", 7, None])
def test_refuses_a_shard_name_that_is_no_plain_name(tmp_path: Path, shard: object) -> None:
    root = directory(tmp_path / "m")
    (root / "model.safetensors").rename(tmp_path / "outside.safetensors")
    (root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))
    with pytest.raises(ContractError):
        open_huggingface(root)


def test_refuses_an_index_that_disagrees_with_its_shards(tmp_path: Path) -> None:
    root = directory(tmp_path / "m")
    (root / "model.safetensors").rename(root / "a.safetensors")
    names = [their_name(name) for name in make.tensors()]
    (root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names[1:], "a.safetensors")}))
    with pytest.raises(ContractError, match="same tensors"):
        open_huggingface(root)


def test_refuses_pickled_weights_with_the_way_out(tmp_path: Path) -> None:
    root = directory(tmp_path / "m")
    (root / "model.safetensors").rename(root / "pytorch_model.bin")
    with pytest.raises(ContractError) as caught:
        open_huggingface(root)
    assert "save_pretrained" in caught.value.remedy


def test_refuses_nan_when_the_tensor_is_read(tmp_path: Path) -> None:
    weights = {their_name(name): tensor for name, tensor in make.tensors().items()}
    weights["model.norm.weight"][0] = torch.nan
    foreign = open_huggingface(directory(tmp_path / "m", weights))
    with pytest.raises(ContractError, match="finite"):
        foreign.load("norm_f.weight")


def test_the_digest_covers_every_file_that_is_used(tmp_path: Path) -> None:
    first = open_huggingface(directory(tmp_path / "a")).source.sha256
    assert open_huggingface(directory(tmp_path / "b")).source.sha256 == first
    assert open_huggingface(directory(tmp_path / "c", unread=1)).source.sha256 != first
    (tmp_path / "b" / "generation_config.json").write_text("{}")
    (tmp_path / "a" / "README.md").write_text("not used")
    assert open_huggingface(tmp_path / "b").source.sha256 != first == open_huggingface(tmp_path / "a").source.sha256


def test_computed_buffers_of_old_files_are_passed_over(tmp_path: Path) -> None:
    weights = {their_name(name): tensor for name, tensor in make.tensors().items()} | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    assert open_huggingface(directory(tmp_path / "m", weights)).arch == make.TINY


@pytest.mark.parametrize(
    ("settings_", "kind"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ({"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 2.0}}, "linear"),
        ({"rope_scaling": LLAMA3}, "llama3"),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 10000.0, **LLAMA3}}, "llama3"),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}, None),
        ({"rope_scaling": {"rope_type": "default"}}, None),
    ],
)
def test_reads_both_forms_of_rope(tmp_path: Path, settings_: dict[str, Any], kind: str | None) -> None:
    arch = open_huggingface(directory(tmp_path / "m", **settings_)).arch
    assert (arch.rope_scaling and arch.rope_scaling.kind) == kind and arch.rope_theta == 10000.0


SOUND = json.dumps(CONFIG | {"rope_scaling": LLAMA3}).encode()


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=3))
def test_damaged_configurations_are_read_or_refused_never_more(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    raw = bytearray(SOUND)
    for at, value in flips:
        raw[at] = value
    (tmp_path / "config.json").write_bytes(raw)
    with contextlib.suppress(ContractError):
        read_arch(tmp_path / "config.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5), lambda x: st.lists(x, max_size=3), max_leaves=4
)


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*CONFIG, "head_dim", "rope_scaling", "rope_parameters"]),
    JSON | st.dictionaries(st.sampled_from([*LLAMA3, "type", "rope_theta"]), JSON),
)
def test_any_value_in_any_key_is_read_or_refused_never_more(tmp_path: Path, key: str, value: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {key: value}))
    with contextlib.suppress(ContractError):
        read_arch(tmp_path / "config.json")


@pytest.mark.train
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_reads_what_transformers_writes(tmp_path: Path, dtype: torch.dtype, tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {"rope_type": "llama3", "rope_theta": 50000.0, **{key: value for key, value in LLAMA3.items() if key != "rope_type"}}
    config = LlamaConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=101,
        max_position_embeddings=64, tie_word_embeddings=tied, rope_parameters=rope, rms_norm_eps=1e-5,
    )  # fmt: skip
    torch.manual_seed(1)
    model = LlamaForCausalLM(config).to(dtype)
    model.save_pretrained(tmp_path / "m", max_shard_size="40KB")
    assert (tmp_path / "m" / "model.safetensors.index.json").exists()
    foreign = open_huggingface(tmp_path / "m")
    assert (foreign.arch.d_head, foreign.arch.n_kv_heads, foreign.arch.rope_theta, foreign.arch.tie_embeddings) == (16, 2, 50000.0, tied)
    assert foreign.arch.rope_scaling is not None and foreign.arch.rope_scaling.original_max_position == 32 and foreign.arch.norm_eps == 1e-5
    published = model.state_dict()
    for name in foreign.shapes:
        assert torch.equal(foreign.load(name), published[their_name(name)].float())
