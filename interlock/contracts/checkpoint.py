"""Checkpoint contract: a student's weights, architecture and tokenizer, as they cross between interpreters.

Here: the fields and the rules between them. Not here: foreign formats (pipeline/sources), the model itself (runtime/student).
The directory holds `model.safetensors`, `tokenizer.json`, where the model has one `chat_template.jinja`, and where the source stored tensors in
quantised blocks `source_blocks.safetensors`: those blocks as they were, uint8 [rows, bytes of a row], rows in the order of the weight, so that a
package can carry them on.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from interlock.contracts.base import Contract, Frozen, Sha256

FILE = "checkpoint_contract.json"
WEIGHTS, TOKENIZER, CHAT_TEMPLATE = "model.safetensors", "tokenizer.json", "chat_template.jinja"
BLOCKS = "source_blocks.safetensors"

Width = Annotated[int, Field(ge=1, le=1 << 20)]
Count = Annotated[int, Field(ge=1, le=4096)]


class RopeScaling(Frozen):
    """How rotary frequencies are stretched beyond the trained length.

    `linear` divides every frequency by `factor` (Chen et al. 2023, arXiv:2306.15595). `llama3` keeps high frequencies, divides low ones and
    blends between (Llama 3.1; same formula as transformers' `_compute_llama3_parameters`).
    """

    kind: Literal["linear", "llama3"]
    factor: Annotated[float, Field(ge=1, le=1024)]
    low_freq_factor: Annotated[float, Field(gt=0, le=1024)] | None = None
    high_freq_factor: Annotated[float, Field(gt=0, le=1024)] | None = None
    original_max_position: Annotated[int, Field(ge=1, le=1 << 24)] | None = None

    @model_validator(mode="after")
    def _llama3_is_complete(self) -> RopeScaling:
        extra = (self.low_freq_factor, self.high_freq_factor, self.original_max_position)
        if self.kind == "llama3" and None in extra:
            raise ValueError("llama3 scaling needs low_freq_factor, high_freq_factor and original_max_position")
        if self.kind == "linear" and any(value is not None for value in extra):
            raise ValueError("linear scaling has a factor only")
        return self


class Arch(Frozen):
    """A decoder of the Llama family: RMSNorm, RoPE (half-split), SwiGLU, grouped-query attention, no biases. Widths are in elements."""

    d_model: Width
    n_layers: Count
    n_heads: Count
    n_kv_heads: Count
    d_head: Annotated[int, Field(ge=2, le=4096, multiple_of=2)]
    d_ff: Width
    vocab_size: Annotated[int, Field(ge=1, le=1 << 24)]
    rope_theta: Annotated[float, Field(gt=0, le=1e12)]
    rope_scaling: RopeScaling | None = None
    norm_eps: Annotated[float, Field(gt=0, le=1)]
    tie_embeddings: bool
    max_position: Annotated[int, Field(ge=1, le=1 << 24)]

    @model_validator(mode="after")
    def _heads_divide(self) -> Arch:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} must be a multiple of n_kv_heads {self.n_kv_heads}")
        return self

    def weight_shapes(self, heads: ModelArch) -> dict[str, tuple[int, ...]]:
        """Every tensor of `model.safetensors`, by the guide's names, `[out, in]` for linear maps."""
        d, q, kv = self.d_model, self.n_heads * self.d_head, self.n_kv_heads * self.d_head
        shapes: dict[str, tuple[int, ...]] = {"embed.weight": (self.vocab_size, d), "norm_f.weight": (d,)}
        for i in range(self.n_layers):
            block = f"blocks.{i}."
            shapes |= {
                f"{block}norm1.weight": (d,),
                f"{block}attn.wq.weight": (q, d),
                f"{block}attn.wk.weight": (kv, d),
                f"{block}attn.wv.weight": (kv, d),
                f"{block}attn.wo.weight": (d, q),
                f"{block}norm2.weight": (d,),
                f"{block}mlp.w1.weight": (self.d_ff, d),
                f"{block}mlp.w3.weight": (self.d_ff, d),
                f"{block}mlp.w2.weight": (d, self.d_ff),
            }
        if not self.tie_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, d)
        if heads.use_halt_head:
            shapes |= {"halt_head.weight": (2, d), "halt_head.bias": (2,)}
        if heads.use_self_evaluation:
            shapes |= {"eval_head.0.weight": (d // 2, d), "eval_head.0.bias": (d // 2,), "eval_head.2.weight": (1, d // 2), "eval_head.2.bias": (1,)}
        return shapes


class ModelArch(Frozen):
    """The optional heads, under the guide's name `model_arch`. The weights must agree with it."""

    use_halt_head: bool = False
    use_self_evaluation: bool = False


class TokenizerInfo(Frozen):
    """`tokenizer.json` and what a token loop needs beside it. `sha256` is the digest of that file. Ids are None where the model has no such token."""

    sha256: Sha256
    vocab_size: Annotated[int, Field(ge=1)]
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None
    bot_id: int | None = None
    eot_id: int | None = None
    add_bos: bool = False
    has_chat_template: bool = False


class Source(Frozen):
    """Where a checkpoint came from. `quantization` maps a tensor to the source's own block type (`Q4_1`) where it was not stored dense; its blocks
    are in `source_blocks.safetensors`."""

    form: Literal["gguf", "huggingface", "torch", "random"]
    name: str
    sha256: Sha256
    quantization: dict[str, str] = Field(default_factory=dict)


class CheckpointContract(Contract):
    """The body: enough to rebuild the student without opening the weights. `tokenizer` is null where the source brought none."""

    kind: Literal["checkpoint"] = "checkpoint"
    arch: Arch
    model_arch: ModelArch
    dtype: Literal["float32", "float16", "bfloat16"]
    step: Annotated[int, Field(ge=0)] = 0
    parameters: Annotated[int, Field(ge=1)]
    tokenizer: TokenizerInfo | None
    source: Source

    @model_validator(mode="after")
    def _tokenizer_fits(self) -> CheckpointContract:
        if self.tokenizer and self.tokenizer.vocab_size > self.arch.vocab_size:
            raise ValueError(f"tokenizer has {self.tokenizer.vocab_size} ids, the embedding has {self.arch.vocab_size} rows")
        return self

    @property
    def has_blocks(self) -> bool:
        """Whether the source's own blocks are in the directory: a checkpoint of an earlier version may name them and not hold them."""
        return any(entry.path == BLOCKS for entry in self.files)
