"""A Llama in GGUF gives the weights that were put in; anything that is not a plain Llama is refused by the name of what is wrong."""

from __future__ import annotations

import math
import struct
import time
from pathlib import Path

import pytest
import torch
from fakes import foreign_files as make
from fakes.smollm2 import smollm2_path

from interlock.contracts.checkpoint import Arch
from interlock.errors import ContractError
from pipeline.sources.gguf import BLOCK_NAMES, NAMES, open_gguf
from pipeline.sources.gguf_header import read_header

OURS = {ours: theirs for theirs, ours in (NAMES | BLOCK_NAMES).items()}


def their_name(name: str) -> str:
    parts = name.removesuffix(".weight").split(".", 2)
    return f"blk.{parts[1]}.{OURS[parts[2]]}.weight" if parts[0] == "blocks" else f"{OURS[parts[0]]}.weight"


def permuted(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py, the direction that a converter takes."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


META: dict[str, int | float | str] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 64,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 2**-20,  # exact in fp32
    "llama.rope.freq_base": 10000.0,
    "llama.vocab_size": 48,
}


def hand_made(path: Path, weights: dict[str, torch.Tensor] | None = None, **changes: object) -> Path:
    """A GGUF file of fp32 tensors, without the library; a change of None leaves a key out, `__` stands for a dot."""
    meta = META | {key.replace("__", "."): value for key, value in changes.items()}
    pairs = []
    for key, value in meta.items():
        if isinstance(value, str):
            pairs.append(make.pair(key, make.STRING, make.text(value)))
        elif isinstance(value, (int, float)):
            pairs.append(
                make.pair(key, make.UINT32 if isinstance(value, int) else make.FLOAT32, struct.pack("<I" if isinstance(value, int) else "<f", value))
            )
    infos, data = [], b""
    for name, tensor in (llama_weights() if weights is None else weights).items():
        infos.append(make.info(name, tuple(tensor.shape)[::-1], 0, len(data)))
        data += tensor.contiguous().numpy().tobytes()
        data += bytes(-len(data) % 32)
    path.write_bytes(make.gguf(pairs, infos, data))
    return path


def llama_weights() -> dict[str, torch.Tensor]:
    heads = {"attn.wq": 4, "attn.wk": 2}
    return {
        their_name(name): permuted(tensor, heads[name.split(".", 2)[2].removesuffix(".weight")]) if ".wq" in name or ".wk" in name else tensor
        for name, tensor in make.tensors().items()
    }


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "another architecture": ({"general__architecture": "gemma"}, "llama"),
    "no architecture": ({"general__architecture": None}, "llama"),
    "architecture with escapes": ({"general__architecture": "\x1b[31mllama"}, "\\x1b"),
    "block_count 10^9": ({"llama__block_count": 10**9}, "block_count"),
    "block_count 0": ({"llama__block_count": 0}, "block_count"),
    "block_count 3": ({"llama__block_count": 3}, "blocks.2"),
    "block_count 1": ({"llama__block_count": 1}, "blocks.1"),
    "no context length": ({"llama__context_length": None}, "context_length"),
    "context length 2^31": ({"llama__context_length": 1 << 31}, "context_length"),
    "head_count 0": ({"llama__attention__head_count": 0}, "head_count"),
    "head_count 3 of 2": ({"llama__attention__head_count": 3, "llama__attention__key_length": 8}, "multiple"),
    "a string for a number": ({"llama__embedding_length": "32"}, "embedding_length"),
    "a float for a count": ({"llama__feed_forward_length": 64.0}, "feed_forward_length"),
    "epsilon NaN": ({"llama__attention__layer_norm_rms_epsilon": math.nan}, "epsilon"),
    "epsilon 0": ({"llama__attention__layer_norm_rms_epsilon": 0.0}, "epsilon"),
    "rope base infinite": ({"llama__rope__freq_base": math.inf}, "freq_base"),
    "rope on half of the head": ({"llama__rope__dimension_count": 4}, "dimension_count"),
    "yarn": ({"llama__rope__scaling__type": "yarn", "llama__rope__scaling__factor": 2.0}, "yarn"),
    "linear by 0": ({"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 0.0}, "factor"),
    "experts": ({"llama__expert_count": 8}, "expert"),
    "one of several files": ({"split__count": 3}, "split"),
    "an unknown hyperparameter": ({"llama__logit_scale": 2.0}, "logit_scale"),
    "vocabulary of another size": ({"llama__vocab_size": 47}, "embed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_is_no_plain_llama(tmp_path: Path, name: str) -> None:
    changes, word = REFUSED[name]
    with pytest.raises(ContractError) as caught:
        open_gguf(hand_made(tmp_path / "m.gguf", **changes))
    text = "\n".join(caught.value.lines())
    assert word in text and "\x1b" not in text


@pytest.mark.parametrize("change", ["missing", "unknown", "bias", "our own name", "transposed"])
def test_refuses_other_tensors(tmp_path: Path, change: str) -> None:
    weights = llama_weights()
    if change == "missing":
        del weights["blk.1.ffn_up.weight"]
    elif change == "transposed":
        weights["blk.0.ffn_up.weight"] = weights["blk.0.ffn_up.weight"].T
    else:
        weights[{"unknown": "x", "bias": "blk.0.attn_q.bias", "our own name": "embed.weight"}[change]] = torch.zeros(32)
    with pytest.raises(ContractError):
        open_gguf(hand_made(tmp_path / "m.gguf", weights))


def test_reads_the_architecture(tmp_path: Path) -> None:
    foreign = open_gguf(hand_made(tmp_path / "m.gguf"))
    assert foreign.arch == make.TINY.model_copy(update={"norm_eps": 2**-20})
    assert foreign.shapes == foreign.arch.weight_shapes(foreign.model_arch) and foreign.source.quantization == {} and foreign.tokenizer is None


def test_ties_the_head_where_the_file_has_none(tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in llama_weights().items() if name != "output.weight"}
    assert open_gguf(hand_made(tmp_path / "m.gguf", weights)).arch.tie_embeddings


def test_reads_linear_scaling(tmp_path: Path) -> None:
    scaling = open_gguf(hand_made(tmp_path / "m.gguf", llama__rope__scaling__type="linear", llama__rope__scaling__factor=4.0)).arch.rope_scaling
    assert scaling is not None and (scaling.kind, scaling.factor) == ("linear", 4.0)


@pytest.mark.train
def test_reads_weights_as_they_were_before_conversion(tmp_path: Path) -> None:
    import gguf

    writer, path = gguf.GGUFWriter(tmp_path / "m.gguf", "llama"), tmp_path / "m.gguf"
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(48)
    kinds = {"blk.0.ffn_up.weight": "Q8_0", "blk.0.ffn_down.weight": "Q4_1", "blk.1.ffn_up.weight": "F16", "blk.1.ffn_down.weight": "BF16"}
    for name, tensor in llama_weights().items():
        kind = gguf.GGMLQuantizationType[kinds.get(name, "F32")]
        writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    foreign = open_gguf(path)
    assert foreign.source.quantization == {"blocks.0.mlp.w3.weight": "Q8_0", "blocks.0.mlp.w2.weight": "Q4_1"}
    for name, tensor in make.tensors().items():
        loaded = foreign.load(name)
        kind = kinds.get(their_name(name), "F32")
        # Half a quantisation step: 8 and 4 bits over a block's range of about 6; rounding of fp16 and bf16.
        assert (
            loaded.dtype == torch.float32 and (loaded - tensor).abs().max() <= {"F32": 0, "F16": 2e-3, "BF16": 2e-2, "Q8_0": 2e-2, "Q4_1": 0.25}[kind]
        )


@pytest.mark.train
def test_queries_and_keys_of_the_real_file_are_as_transformers_reads_them() -> None:
    import gguf
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    foreign, theirs = open_gguf(smollm2_path()), LlamaTensorProcessor(config={"num_attention_heads": 9, "num_key_value_heads": 3})
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(smollm2_path()).tensors}
    for name, ours in (("blk.0.attn_q.weight", "blocks.0.attn.wq.weight"), ("blk.29.attn_k.weight", "blocks.29.attn.wk.weight")):
        published = theirs.process(gguf.quants.dequantize(stored[name].data, stored[name].tensor_type).copy(), name).weights
        assert torch.equal(foreign.load(ours), torch.from_numpy(published.copy()))


@pytest.mark.train
def test_a_block_that_decodes_to_no_number_is_refused(tmp_path: Path) -> None:
    weights = llama_weights()
    weights["blk.0.ffn_up.weight"][3, 5] = math.nan
    foreign = open_gguf(hand_made(tmp_path / "m.gguf", weights))
    with pytest.raises(ContractError, match="finite"):
        foreign.load("blocks.0.mlp.w3.weight")


def llama3_factors(arch: Arch, factor: float, low: float, high: float, original: int) -> torch.Tensor:
    """Divisors of the rotary frequencies by transformers' own function."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "rope_theta": arch.rope_theta, "factor": factor, "low_freq_factor": low, "high_freq_factor": high}
    config = LlamaConfig(
        hidden_size=arch.d_model,
        num_attention_heads=arch.n_heads,
        head_dim=arch.d_head,
        rope_parameters=rope | {"original_max_position_embeddings": original},
    )
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / arch.rope_theta ** (torch.arange(0, arch.d_head, 2).float() / arch.d_head)
    return plain / stretched


@pytest.mark.train
@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_recognises_the_published_llama3_factors(tmp_path: Path, factor: float) -> None:
    arch = make.TINY.model_copy(update={"rope_theta": 500000.0})
    weights = llama_weights() | {"rope_freqs.weight": llama3_factors(arch, factor, 1.0, 4.0, 8192)}
    scaling = open_gguf(hand_made(tmp_path / "m.gguf", weights, llama__rope__freq_base=500000.0)).arch.rope_scaling
    assert scaling is not None and (scaling.kind, scaling.factor, scaling.original_max_position) == ("llama3", factor, 8192)


@pytest.mark.train
@pytest.mark.parametrize("settings", [(8.0, 1.0, 4.0, 64), (8.0, 2.0, 16.0, 8192)])
def test_refuses_llama3_factors_of_unknown_parameters(tmp_path: Path, settings: tuple[float, float, float, int]) -> None:
    arch = make.TINY.model_copy(update={"rope_theta": 500000.0})
    weights = llama_weights() | {"rope_freqs.weight": llama3_factors(arch, *settings)}
    with pytest.raises(ContractError, match="Llama 3"):
        open_gguf(hand_made(tmp_path / "m.gguf", weights, llama__rope__freq_base=500000.0))


@pytest.mark.parametrize("values", [[0.0] * 4, [math.nan] * 4, [1.0, 1.0, 1.0, 1e30]])
def test_refuses_hostile_rope_factors(tmp_path: Path, values: list[float]) -> None:
    with pytest.raises(ContractError, match="Llama 3"):
        open_gguf(hand_made(tmp_path / "m.gguf", llama_weights() | {"rope_freqs.weight": torch.tensor(values)}))


@pytest.mark.train
def test_opens_the_real_model() -> None:
    begun = time.process_time()
    foreign = open_gguf(smollm2_path())
    assert time.process_time() - begun < 30  # 1.5 s measured, tokenizer and sha256 of 98 MB included
    assert (foreign.arch.d_model, foreign.arch.n_layers, foreign.arch.tie_embeddings) == (576, 30, True)
    assert sorted(set(foreign.source.quantization.values())) == ["Q4_1", "Q8_0"] and len(foreign.source.quantization) == 211
    assert foreign.load("blocks.29.attn.wk.weight").shape == (192, 576)
    assert read_header(smollm2_path()).metadata["llama.vocab_size"] == foreign.arch.vocab_size
