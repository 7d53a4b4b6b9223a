"""Checkpoint contract: a student's weights, architecture and tokenizer, as they cross between interpreters.

Here: the fields and the rules between them. Not here: foreign formats (pipeline/sources), the model itself (runtime/student).
The directory holds `model.safetensors`, `tokenizer.json`, where the model has one `chat_template.jinja`, and where the source stored tensors in
quantised blocks `source_blocks.safetensors`: those blocks as they were, uint8 [rows, bytes of a row], rows in the order of the weight, so that a
package can carry them on.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from interlock.contracts.base import Contract, Frozen, Sha256

FILE = "checkpoint_contract.json"
WEIGHTS, TOKENIZER, CHAT_TEMPLATE = "model.safetensors", "tokenizer.json", "chat_template.jinja"
BLOCKS = "source_blocks.safetensors"

# Fields of Arch that came later: a document without them is a plain Llama.
OF_RELATIVES = ("attention_bias", "qk_norm", "sliding_window", "no_rope_layers")

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
    """A decoder of the Llama family: RMSNorm, RoPE (half-split), SwiGLU, grouped-query attention. Widths are in elements.

    What its relatives add stands in the document only where it is used: biases of query, key and value (Qwen2), a norm over each head of query and
    key (Qwen3), a window of so many positions that attention sees, its own included (Mistral), layers without rotation, by index (SmolLM3).
    """

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
    attention_bias: bool = False
    qk_norm: bool = False
    sliding_window: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    no_rope_layers: tuple[Annotated[int, Field(ge=0, lt=4096)], ...] = ()

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        return {name: value for name, value in document.items() if value or name not in OF_RELATIVES}

    @model_validator(mode="after")
    def _heads_divide(self) -> Arch:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} must be a multiple of n_kv_heads {self.n_kv_heads}")
        if list(self.no_rope_layers) != sorted(set(self.no_rope_layers)) or any(layer >= self.n_layers for layer in self.no_rope_layers):
            raise ValueError(f"no_rope_layers must be layers of 0 to {self.n_layers - 1}, each once and in order")
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
            if self.attention_bias:
                shapes |= {f"{block}attn.wq.bias": (q,), f"{block}attn.wk.bias": (kv,), f"{block}attn.wv.bias": (kv,)}
            if self.qk_norm:
                shapes |= {f"{block}attn.q_norm.weight": (self.d_head,), f"{block}attn.k_norm.weight": (self.d_head,)}
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


class LatentTraining(Frozen):
    """How a student was taught to reason in latent spans. It can be run with `slots_per_step` slots for each replaced step and with no more than
    `max_slots`: other counts were never trained. `step_loss` is the weight of the loss that teaches a slot what it stands for. `helps`: on the same
    rows, spans were better than every control and than spans that were tampered with, each shown by a paired test; null where no control was trained.
    `monitors`: what the slots look like (`cosine` from one to the next, `norm_ratio` to an embedding, `step_probe`).
    """

    schedule: Literal["mixture", "staged"]
    slots_per_step: Annotated[int, Field(ge=1, le=64)]
    max_slots: Annotated[int, Field(ge=1, le=4096)]
    step_loss: Annotated[float, Field(ge=0)]
    helps: bool | None = None
    monitors: dict[str, float] = Field(default_factory=dict)


class HaltTraining(Frozen):
    """What a halt head was taught, and what it may be asked. `reads`: at the slots of a latent span, or where a sentence or line ends.

    `threshold` is the probability from which on it is obeyed. `backbone` is the sha256 of the weights that the head was fitted on, null where it was
    trained together with them. `knows` names the kinds of requests it has seen. `evidence` are figures of held-out answers, by name.
    """

    reads: Literal["slot", "sentence_end"]
    threshold: Annotated[float, Field(gt=0, lt=1)]
    backbone: Sha256 | None
    knows: tuple[str, ...] = ()
    evidence: dict[str, float] = Field(default_factory=dict)


# Ways of training that most trainings have not: a contract without one is the same with and without its field.
SAID_WHERE_DONE = ("lora", "quantization")


class LoraTraining(Frozen):
    """Adapters that were trained in place of the weights, and are merged into them. `alpha` over `rank` is what their sum was multiplied by,
    `dropout` of what they read; `targets` are maps that had one, `whole` parts that were trained as they are, `trained` all elements that were."""

    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: tuple[str, ...]
    whole: tuple[str, ...] = ()
    trained: Annotated[int, Field(ge=0)]


class QuantizedTraining(Frozen):
    """Matrices counted in training as what a package stores by `method`, with a scale for `group` elements (0: for a row), and are that now: stored
    so again, they change by no bit."""

    method: Literal["int8", "int4"]
    group: Annotated[int, Field(ge=0)]


class Training(Frozen):
    """How the weights, or a head of them, came about: `losses` and their weights by name. Null parts were not trained.

    `accuracy`: the share of right answers on `asked` held-out rows, by way of answering (`text`, `spans`, `spans, zero`, …) and number of a row's
    steps; `tokens`: how many an answer had, by way, in the mean; `passes`: those and the slots before them, which cost a decoding step each. `lora`:
    how few of the weights were trained, null where all of them could change; `quantization`: the form that the weights have, null for none.
    """

    losses: dict[str, float]
    seed: int
    steps: Annotated[int, Field(ge=0)]
    latent: LatentTraining | None
    halt: HaltTraining | None
    asked: Annotated[int, Field(ge=0)] = 0
    accuracy: dict[str, dict[str, Annotated[float, Field(ge=0, le=1)]]] = Field(default_factory=dict)
    tokens: dict[str, float] = Field(default_factory=dict)
    passes: dict[str, float] = Field(default_factory=dict)
    lora: LoraTraining | None = None
    quantization: QuantizedTraining | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        return {name: value for name, value in document.items() if value is not None or name not in SAID_WHERE_DONE}


class Source(Frozen):
    """Where a checkpoint came from. `quantization` maps a tensor to the source's own block type (`Q4_1`) where it was not stored dense; its blocks
    are in `source_blocks.safetensors`."""

    form: Literal["gguf", "huggingface", "torch", "random", "trained"]
    name: str
    sha256: Sha256
    quantization: dict[str, str] = Field(default_factory=dict)


def check_training(training: Training | None, heads: ModelArch) -> None:
    """Raises ValueError if a halt head was trained that is not there."""
    if training and training.halt and not heads.use_halt_head:
        raise ValueError("training.halt is of a halt head, and model_arch has none")


def check_version(version: int, arch: Arch) -> None:
    """Raises ValueError for what an architecture of that version of the contract could not have."""
    if version == 1 and (later := [name for name in OF_RELATIVES if getattr(arch, name)]):
        raise ValueError(f"version 1 has no arch.{later[0]}")


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
    training: Training | None = None

    SINCE_2: ClassVar[tuple[str, ...]] = ("training",)

    @property
    def latent(self) -> LatentTraining | None:
        """How it was taught to reason in latent spans; None where it was not."""
        return self.training.latent if self.training else None

    @model_validator(mode="after")
    def _training_fits(self) -> CheckpointContract:
        check_training(self.training, self.model_arch)
        check_version(self.schema_version, self.arch)
        return self

    @model_validator(mode="after")
    def _tokenizer_fits(self) -> CheckpointContract:
        if self.tokenizer and self.tokenizer.vocab_size > self.arch.vocab_size:
            raise ValueError(f"tokenizer has {self.tokenizer.vocab_size} ids, the embedding has {self.arch.vocab_size} rows")
        return self

    @property
    def has_blocks(self) -> bool:
        """Whether the source's own blocks are in the directory: a checkpoint of an earlier version may name them and not hold them."""
        return any(entry.path == BLOCKS for entry in self.files)
