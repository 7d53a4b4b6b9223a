"""The engines that benchmarks drive against each other, over one set of weights.

Here: a checkpoint as weights and ids, transformers' Llama around the same tensors, the read roofline. Not here: timing (turns.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from interlock.contracts.checkpoint import FILE, OF_RELATIVES, TOKENIZER, Arch, CheckpointContract, ModelArch
from interlock.contracts.io import read_contract
from interlock.errors import UsageError
from pipeline.sources.foreign import Foreign
from pipeline.sources.opening import open_source
from runtime.backends.checkpoint_codes import checkpoint_codes, packed_codes
from runtime.backends.eager import EagerBackend
from runtime.backends.held import Held, LoadCodes, Weights
from runtime.backends.tensors import as_array
from runtime.student.checkpoint import read_weights

# Enough ordinary English for a prompt of 128 tokens and as many again to be continued with.
TEXT = """A library is a collection of materials, books or media that are accessible for use and not just for display purposes. A library
provides physical or digital access to materials, and may be a physical location or a virtual space, or both. A library's collection normally
includes printed materials which may be borrowed, and usually also includes a reference section of publications which may only be utilized
inside the premises. Resources such as commercial releases of films, television programmes, other video recordings, radio, music and audio
recordings may be available in many formats. In addition, some libraries offer creation stations for makers which offer access to a studio with
computers, printers and workbenches. Libraries can vary widely in size and may be organised and maintained by a public body such as a
government, an institution such as a school or museum, a corporation, or a private individual. In addition to providing materials, libraries
also provide the services of librarians who are trained experts in finding, selecting, circulating and organising information while interpreting
information needs and navigating large amounts of information with a variety of resources. The area of study is known as library science."""

LLAMA_NAMES = {"embed.": "model.embed_tokens.", "norm_f.": "model.norm.", "blocks.": "model.layers.", ".norm1.": ".input_layernorm.",
               ".norm2.": ".post_attention_layernorm.", ".attn.w": ".self_attn.w", ".wq.": ".q_proj.", ".wk.": ".k_proj.", ".wv.": ".v_proj.",
               ".wo.": ".o_proj.", ".w1.": ".gate_proj.", ".w3.": ".up_proj.", ".w2.": ".down_proj."}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """Weights in fp32 by the guide's names, the codes of those that the source stored in blocks, and the ids of TEXT."""

    arch: Arch
    weights: dict[str, Tensor]
    ids: list[int]
    codes: LoadCodes | None

    def text(self, count: int) -> list[int]:
        """So many ids: TEXT, again and again. Raises UsageError beyond the model's positions."""
        if count > self.arch.max_position:
            raise UsageError(f"{count} tokens are asked for, the model has {self.arch.max_position} positions", remedy="ask for fewer")
        return (self.ids * -(-count // len(self.ids)))[:count]

    @property
    def size_bytes(self) -> int:
        return sum(weight.numel() * 4 for weight in self.weights.values())


def open_model(spec: str) -> Model:
    """spec: a checkpoint directory of ours, or whatever `interlock import` takes. Raises ContractError or UsageError."""
    from tokenizers import Tokenizer

    directory = Path(spec)
    if (directory / FILE).exists():
        contract = read_contract(directory / FILE, CheckpointContract)
        arch = contract.arch
        weights = {name: weight.float() for name, weight in read_weights(directory, contract).items()}
        vocabulary = (directory / TOKENIZER).read_bytes() if contract.tokenizer else None
        codes = checkpoint_codes(directory, contract) if contract.has_blocks else None
    else:
        foreign = open_source(spec)
        arch = foreign.arch
        weights = {name: foreign.load(name) for name in foreign.shapes}
        vocabulary = foreign.tokenizer.tokenizer_json if foreign.tokenizer else None
        codes = foreign_codes(foreign)
    if vocabulary is None:
        raise UsageError(f"`{spec}` carries no tokenizer to make a prompt with", remedy="benchmark a checkpoint directory or a GGUF file")
    return Model(arch, weights, list(Tokenizer.from_buffer(vocabulary).encode(TEXT.replace("\n", " ")).ids), codes)


def foreign_codes(foreign: Foreign) -> LoadCodes | None:
    """Of a source that stores weights in blocks."""
    kinds, blocks = foreign.source.quantization, foreign.blocks
    if not kinds or blocks is None:
        return None
    return lambda name: packed_codes(kinds[name], blocks(name).numpy(), foreign.shapes[name]) if name in kinds else None


class Engine(Protocol):
    """Something that reads a prompt and then takes one token at a time."""

    def prefill(self, ids: list[int]) -> Tensor:
        """Start over with a prompt; logits [V] after its last token."""

    def decode(self, token: int) -> Tensor:
        """Append a token; logits [V]."""


class Eager:
    """runtime.backends.eager over the model's weights."""

    def __init__(self, model: Model, weights: Weights) -> None:
        self.backend = EagerBackend(model.arch, ModelArch(), Held(lambda name: as_array(model.weights[name]), weights, model.codes))
        self.cache = self.backend.new_cache()

    def prefill(self, ids: list[int]) -> Tensor:
        self.cache.rewind(0)
        return torch.from_numpy(self.backend.prefill(ids, self.cache).logits)

    def decode(self, token: int) -> Tensor:
        return torch.from_numpy(self.backend.decode(token, self.cache).logits)


class Transformers:
    """LlamaForCausalLM in fp32 with its default attention and a DynamicCache, around the same tensors. Prompts ask for the last logits only."""

    def __init__(self, model: Model) -> None:
        from transformers import DynamicCache

        self.llama = _llama(model.arch)
        state = {_llama_name(name): weight for name, weight in model.weights.items() if name.split(".")[0] not in ("halt_head", "eval_head")}
        if model.arch.tie_embeddings:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        self.llama.load_state_dict(state, assign=True)
        self.llama.eval().requires_grad_(False)
        self.new_cache: Callable[[], Any] = lambda: DynamicCache(config=self.llama.config)

    def prefill(self, ids: list[int]) -> Tensor:
        self.cache = self.new_cache()
        return self._forward(ids)

    def decode(self, token: int) -> Tensor:
        return self._forward([token])

    @torch.inference_mode()
    def _forward(self, ids: list[int]) -> Tensor:
        logits: Tensor = self.llama(torch.tensor([ids]), past_key_values=self.cache, logits_to_keep=1).logits
        return logits[0, -1]


class Roofline:
    """One vectorised read of as many bytes as the weights have: the time below which no engine gets that reads each weight once per token."""

    def __init__(self, size_bytes: int) -> None:
        self.block = torch.ones(size_bytes // 4)

    def decode(self, token: int) -> Tensor:
        return self.block.sum()


def _llama_name(name: str) -> str:
    for ours, theirs in LLAMA_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _llama(arch: Arch) -> Any:
    """LlamaForCausalLM with its weights on the meta device."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if more := [name for name in OF_RELATIVES if getattr(arch, name)]:
        raise UsageError(f"transformers' Llama has no `{more[0]}`", remedy="benchmark a plain Llama")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": arch.rope_theta}
    if arch.rope_scaling is not None:
        scaling = arch.rope_scaling.model_dump(exclude_none=True)
        original = scaling.pop("original_max_position", None)
        rope |= {"rope_type": scaling.pop("kind"), **scaling} | ({"original_max_position_embeddings": original} if original else {})
    config = LlamaConfig(
        hidden_size=arch.d_model, num_hidden_layers=arch.n_layers, num_attention_heads=arch.n_heads, num_key_value_heads=arch.n_kv_heads,
        head_dim=arch.d_head, intermediate_size=arch.d_ff, vocab_size=arch.vocab_size, max_position_embeddings=arch.max_position,
        rms_norm_eps=arch.norm_eps, tie_word_embeddings=arch.tie_embeddings, rope_parameters=rope,
    )  # fmt: skip
    with torch.device("meta"):
        llama = LlamaForCausalLM(config)
    llama.model.rotary_emb = type(llama.model.rotary_emb)(config)  # its table is computed, not loaded
    return llama
