"""The tables of a recipe: what it may say, field by field.

Here: fields, ranges, and the rules between them. Not here: finding, reading, setting and expanding a recipe (recipe.py). msgspec, because the models
of pydantic take longer to import than a build with nothing to do may take; the stages' own models say the same again, strictly (a test compares
them).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

OUTPUTS = ("dataset", "checkpoint", "exported", "package", "compressed", "deployed", "evaluation")
Method = Literal["none", "source", "int8", "int4", "palette4", "palette6", "palette8"]
Length = Annotated[int, Meta(ge=1, le=1 << 20)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Bound = Annotated[float, Meta(ge=0, le=1e6)]
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1e3)]
Count = Annotated[int, Meta(ge=1, le=1 << 24)]
Width = Annotated[int, Meta(ge=1, le=1 << 20)]
Part = Annotated[str, Meta(min_length=1, max_length=256)]
Layers = Annotated[int, Meta(ge=1, le=4096)]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the student comes from: `package:NAME`, `gguf:FILE`, `hf:DIR`, `pt:FILE`, `random:SEED`, a path, or a checkpoint directory.

    `halt_head`: one that comes with interlock or a file, fitted on these weights; `latent_tokens`: two unused control tokens that become `<bot>` and
    `<eot>`.
    """

    checkpoint: Annotated[str, Meta(min_length=1, max_length=4096)]
    tokenizer: str | None = None
    halt_head: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    latent_tokens: Annotated[list[str], Meta(min_length=2, max_length=2)] | None = None


class DataTeacher(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A teacher whose answers are put beside the rows before anything is trained on them: the checkpoint directory `path`, asked as by
    `interlock data teach`."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    splits: Annotated[list[Name], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["train"])
    temperature: Annotated[float, Meta(ge=0, le=100)] = 0.0
    seed: Annotated[int, Meta(ge=0, le=(1 << 53) - 1)] | None = None
    max_new_tokens: Count = 256
    top_k: Annotated[int, Meta(ge=0, le=1 << 18)] = 0
    tail: Literal["bucket", "zero", "symmetric_uniform"] = "bucket"

    def __post_init__(self) -> None:
        if "://" in self.path:
            raise ValueError(
                "a teacher of a recipe is a checkpoint directory: the key of a step cannot name what an endpoint will answer; "
                "ask it once with `interlock data teach`, and name what that makes as data.path"
            )


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is trained on: a task of `interlock data make` with its seed and parameters, or a dataset directory; with `teacher` as that one answers
    it."""

    task: Name | None = None
    seed: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    parameters: dict[str, bool | int | float | str] = {}
    path: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    teacher: DataTeacher | None = None

    def __post_init__(self) -> None:
        if (self.task is None) == (self.path is None):
            raise ValueError("data is made or lies somewhere: one of `task` and `path`")


class Scratch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A student that starts from random weights; its tokenizer is trained on the rows."""

    d_model: Width = 128
    n_layers: Layers = 2
    n_heads: Layers = 4
    n_kv_heads: Layers = 4
    d_head: Annotated[int, Meta(ge=2, le=4096, multiple_of=2)] = 32
    d_ff: Width = 384
    rope_theta: Annotated[float, Meta(gt=0, le=1e12)] = 10000.0
    norm_eps: Annotated[float, Meta(gt=0, le=1)] = 1e-5
    tie_embeddings: bool = False
    max_position: Annotated[int, Meta(ge=1, le=1 << 24)] = 512
    vocab_size: Annotated[int, Meta(ge=265, le=1 << 18)] = 512
    halt_head: bool = False


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The weight of each loss; 0 leaves it out."""

    ce: Weight = 1.0
    kl: Weight = 0.0
    step: Weight = 0.5
    halt: Weight = 0.2


class Distillation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the loss `kl` compares student and teacher."""

    beta: Share = 0.0
    on_policy: Share = 0.0
    temperature: Annotated[float, Meta(gt=0, le=100)] = 2.0


class CodeMode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The loss on pairs of a preferred and a rejected answer: its weight grows from `first` to `weight` over so many steps."""

    weight: Weight = 0.3
    first: Weight = 0.1
    over: Annotated[int, Meta(ge=0, le=1 << 24)] = 5000
    pairs: Literal["eligible", "all"] = "eligible"


class Latent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The curriculum of latent spans, and the controls that are trained beside the student."""

    schedule: Literal["mixture", "staged"] = "mixture"
    text: Share = 0.25
    whole: Share = 0.7
    stages: Annotated[int, Meta(ge=1, le=1024)] = 1
    mixed: Share = 0.0
    slots_per_step: Annotated[int, Meta(ge=1, le=64)] = 1
    step_tokens: Annotated[int, Meta(ge=1, le=64)] = 1
    controls: list[Literal["pause", "direct"]] = []


class Lora(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Adapters of low rank in place of the weights, merged into them at the end."""

    rank: Annotated[int, Meta(ge=1, le=4096)] = 8
    alpha: Annotated[float, Meta(gt=0, le=1e6)] = 16.0
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    targets: Annotated[list[Part], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["attn", "mlp"])
    whole: list[Part] = []


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The form in which a package will store the matrices, and in which they count while the student learns; `group` as of [compress]."""

    method: Literal["int8", "int4"]
    group: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None


class Train(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The training between data and export. With `scratch` the student starts from random weights, else from the [source]. `teacher` is the
    checkpoint directory of one that is there meanwhile."""

    steps: Count
    batch: Count = 64
    micro_batch: Count | None = None
    seed: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    lr: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: Annotated[int, Meta(ge=0, le=1 << 24)] = 50
    lr_floor: Share = 0.1
    beta1: Share = 0.9
    beta2: Share = 0.98
    weight_decay: Weight = 0.01
    clip: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: Annotated[int, Meta(ge=1, le=1024)] = 1
    processes: Annotated[int, Meta(ge=1, le=256)] = 1
    sharded: bool = False
    evaluate_every: Count = 200
    save_every: Count = 200
    patience: Count | None = None
    frozen: list[Part] = []
    recompute: bool = False
    teacher: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    scratch: Scratch | None = None
    weights: Weights = msgspec.field(default_factory=Weights)
    distillation: Distillation = msgspec.field(default_factory=Distillation)
    latent: Latent | None = None
    code_mode: CodeMode | None = None
    lora: Lora | None = None
    quantization: Quantization | None = None


class Export(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Prefill lengths to prove, and the one that must pass; null is the stage's own choice."""

    lengths: Annotated[list[Length], Meta(min_length=1, max_length=64)] | None = None
    primary: Length | None = None


class Convert(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the exported files become a package. `enabled` false leaves the package out."""

    enabled: bool = True
    layout: Literal["multifunction", "single"] = "multifunction"
    lane: Literal["trace", "export", "both"] = "trace"
    cache_length: Annotated[int, Meta(ge=32, le=1 << 20)] | None = None


class Compress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the shipped package stores its weights. `target_bytes` and `target_kl` (mean, nats) search a mixture of forms."""

    method: Method = "none"
    group: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    target_bytes: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None
    target_kl: Annotated[float, Meta(gt=0, le=1e6)] | None = None


class ExtraGate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A gate of an installed package, asked before an artifact of its kind is published; by `steps` alone, where that is given."""

    gate: Name
    steps: Annotated[list[str], Meta(min_length=1)] | None = None
    params: dict[str, Any] = {}


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stricter bounds than the standard ones, for every package of the build; null keeps the standard. `extra` are gates of installed packages."""

    psnr_db: Bound | None = None
    kl_mean: Bound | None = None
    kl_max: Bound | None = None
    extra: list[ExtraGate] = []


class Deploy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The deployed directory: tier, and claims that the artifacts must bear out."""

    tier: Literal["tier_1", "tier_2", "tier_3"] = "tier_2"
    latent_mode: bool = False
    halt_head: bool = False


class GateClaim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a metric's interval must show; `waived` is a sentence that lets the gate ship inconclusive."""

    at_least: float | None = None
    at_most: float | None = None
    waived: Annotated[str, Meta(min_length=8, max_length=400)] | None = None


class Evaluate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the deployed directory is asked before it is placed: a suite, of its own dataset or of [data]. `gates` come beside and over the suite's:
    a number is the least that must be shown. null keeps what the suite says."""

    suite: Annotated[str, Meta(min_length=1, max_length=4096)] = "latent"
    split: Name | None = None
    backend: Literal["eager", "torchscript", "reference", "coreml"] = "reference"
    items: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    max_new_tokens: Annotated[int, Meta(ge=1, le=1 << 24)] | None = None
    gates: dict[str, float | GateClaim] = {}
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95


class ThirdParty(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A stage of an installed package: its parameters, and for each of its inputs the name of the step that it comes from."""

    stage: Name
    name: Name | None = None
    inputs: dict[str, str] = {}
    params: dict[str, Any] = {}


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One build. `outputs` are the parts that are placed under `output`; everything else stays in the store."""

    description: str = ""
    output: Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
    outputs: Annotated[list[str], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["deployed"])
    toy: bool = False
    source: Source | None = None
    data: Data | None = None
    train: Train | None = None
    export: Export = msgspec.field(default_factory=Export)
    convert: Convert = msgspec.field(default_factory=Convert)
    compress: Compress = msgspec.field(default_factory=Compress)
    gates: Gates = msgspec.field(default_factory=Gates)
    deploy: Deploy = msgspec.field(default_factory=Deploy)
    evaluate: Evaluate | None = None
    stages: list[ThirdParty] = []

    def __post_init__(self) -> None:
        if self.source is None and self.train is None and not self.stages:
            raise ValueError("a recipe needs a [source], a [train] or [[stages]]")
        if self.train is not None and self.data is None:
            raise ValueError("[train] needs [data]")
        if self.train is None and self.data is not None and self.data.teacher is not None:
            raise ValueError("[data.teacher] teaches what [train] learns, and there is no [train]")
        if self.train is not None and (self.train.scratch is None) == (self.source is None):
            raise ValueError("a training starts from [source] or from [train.scratch]: give one of them")
        if self.compress.method != "none" and not self.convert.enabled:
            raise ValueError(f"compress.method `{self.compress.method}` needs a package: convert.enabled is false")
        titles = [step.name or step.stage for step in self.stages]
        if taken := [title for title in titles if title in OUTPUTS]:
            raise ValueError(f"a step cannot be called `{taken[0]}`: an output is")
        named = [*OUTPUTS, *titles]
        if unknown := [name for name in self.outputs if name not in named]:
            raise ValueError(f"outputs names `{unknown[0]}`, which is none of {', '.join(named)}")
        if self.compress.target_bytes is not None and self.compress.target_kl is not None:
            raise ValueError("compress.target_bytes and compress.target_kl are two targets: give one")


TABLES: dict[str, type[msgspec.Struct]] = {
    "": Recipe, "/source": Source, "/export": Export, "/convert": Convert, "/compress": Compress, "/gates": Gates, "/deploy": Deploy,
    "/data": Data, "/data/teacher": DataTeacher, "/evaluate": Evaluate, "/train": Train, "/train/scratch": Scratch, "/train/weights": Weights,
    "/train/distillation": Distillation, "/train/code_mode": CodeMode, "/train/latent": Latent, "/train/lora": Lora,
    "/train/quantization": Quantization,
}  # fmt: skip
