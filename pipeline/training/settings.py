"""What a person chooses about a training, with the defaults of the field.

Here: the settings and their ranges. Not here: where data and weights come from (pipeline/stages/train.py), what a recipe calls them
(pipeline/recipe.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from interlock.contracts.base import Frozen

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e3)]
Count = Annotated[int, Field(ge=1, le=1 << 24)]
Control = Literal["pause", "direct"]


class Weights(Frozen):
    """The weight of each loss, every one a mean over its own supervised places. `ce`: text; `kl`: what a teacher thought at each token of its answer;
    `step`: what a slot stands for; `halt`: the decision to leave a span. 0 leaves a loss out."""

    ce: Weight = 1.0
    kl: Weight = 0.0
    step: Weight = 0.5
    halt: Weight = 0.2


class Distillation(Frozen):
    """How the loss `kl` compares student and teacher. `beta` 0 is forward KL, 1 reverse KL, between them the generalised Jensen-Shannon divergence;
    `temperature` is both's, and the loss is multiplied by its square. `on_policy` is the share of batches in which the student answers itself and a
    teacher that is there judges it."""

    beta: Share = 0.0
    on_policy: Share = 0.0
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0


class CodeMode(Frozen):
    """The loss on pairs of a preferred and a rejected answer, by the guide's name: its weight grows from `first` to `weight` over so many steps.
    `pairs`: those of dialogues that are for code by the guide's rule (many calls, long results, personal data), or `all`."""

    weight: Weight = 0.3
    first: Weight = 0.1
    over: Annotated[int, Field(ge=0, le=1 << 24)] = 5000
    pairs: Literal["eligible", "all"] = "eligible"

    def at(self, step: int) -> float:
        """The weight at an optimizer step, from 0: linear, and the last one from the beginning where it grows over no steps."""
        return self.first + (self.weight - self.first) * (min(step / self.over, 1) if self.over else 1)


class Latent(Frozen):
    """The curriculum of latent spans (curriculum.py). `step_tokens`: how many tokens of a replaced step its last slot has to tell.

    `controls` are trained beside the student, from the same start on the same batches, so that its report may say whether spans help: `pause` has the
    same curriculum with a learned constant in every slot, `direct` answers without steps.
    """

    schedule: Literal["mixture", "staged"] = "mixture"
    text: Share = 0.25
    whole: Share = 0.7
    stages: Annotated[int, Field(ge=1, le=1024)] = 1
    mixed: Share = 0.0
    slots_per_step: Annotated[int, Field(ge=1, le=64)] = 1
    step_tokens: Annotated[int, Field(ge=1, le=64)] = 1
    controls: tuple[Control, ...] = ()

    @model_validator(mode="after")
    def _controls_differ(self) -> Latent:
        if len(set(self.controls)) < len(self.controls):
            raise ValueError("a control is named twice")
        return self


class Lora(Frozen):
    """Adapters of low rank in place of the weights (adapters.py). `alpha` over `rank` is what their sum is multiplied by; `dropout` is of what they
    read. `targets` are linear maps of the layers by the student's names, `whole` parts of the student that are trained as they are beside them."""

    rank: Annotated[int, Field(ge=1, le=4096)] = 8
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("attn", "mlp")
    whole: tuple[str, ...] = ()


class Quantization(Frozen):
    """A form in which a package will store the student's matrices, and in which they count while it learns (quantization.py). `group`: elements per
    scale, 0 for all of a row, null for what a conversion takes."""

    method: Literal["int8", "int4"]
    group: Annotated[int, Field(ge=0, le=1 << 20)] | None = None


class Settings(Frozen):
    """`steps` of an optimizer with batches of `batch` rows, `micro_batch` of them in memory at once (all by default).

    AdamW. The learning rate rises over `warmup` steps and then follows `schedule` down to `lr_floor` of itself: `cosine`; `wsd` stays until the last
    fifth and falls linearly; `constant` stays. `clip` is of the gradient's norm. `ema` averages the weights with that decay, 0 not at all; the
    average is what is kept. `precision` bf16 is autocast: weights and sums stay fp32. `processes` share each batch, with `threads` each; both are
    part of what is made: sums of floats depend on them. `sharded`: each process keeps a share of weights, gradients and moments (sharding.py).
    `frozen` parts of the student (`embed`, `blocks.0`) stay as they are. `recompute` saves memory: backward computes each layer again.
    Every `evaluate_every` steps the validation split is asked; after `patience` times without a lower loss training ends and the weights of the best
    moment are kept (null: never). Every `save_every` steps everything is saved that a killed run goes on from.
    """

    steps: Count
    batch: Count = 64
    micro_batch: Count | None = None
    seed: Annotated[int, Field(ge=0, le=1 << 53)] = 0
    lr: Annotated[float, Field(gt=0, le=1)] = 1e-3
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: Annotated[int, Field(ge=0, le=1 << 24)] = 50
    lr_floor: Share = 0.1
    beta1: Share = 0.9
    beta2: Share = 0.98
    weight_decay: Weight = 0.01
    clip: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    processes: Annotated[int, Field(ge=1, le=256)] = 1
    sharded: bool = False
    evaluate_every: Count = 200
    save_every: Count = 200
    patience: Count | None = None
    frozen: tuple[str, ...] = ()
    recompute: bool = False
    weights: Weights = Field(default_factory=Weights)
    distillation: Distillation = Field(default_factory=Distillation)
    latent: Latent | None = None
    code_mode: CodeMode | None = None
    lora: Lora | None = None
    quantization: Quantization | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if self.micro_batch is not None and self.micro_batch > self.batch:
            raise ValueError(f"micro_batch {self.micro_batch} is more than batch {self.batch}")
        if self.distillation.on_policy and not self.weights.kl:
            raise ValueError("on_policy batches have no loss but `kl`, whose weight is 0")
        if self.processes > self.batch:
            raise ValueError(f"{self.processes} processes share a batch of {self.batch}: each needs a row")
        if self.sharded and self.processes == 1:
            raise ValueError("`sharded` divides weights among processes, and there is one: give `processes`")
        if self.sharded and self.quantization is not None:
            raise ValueError("a weight is rounded as a whole, and `sharded` lets layers go between passes: give one of `sharded` and `quantization`")
        if self.sharded and self.code_mode is not None:
            raise ValueError("processes with other pairs would wait for each other's layers: give one of `sharded` and `code_mode`")
        if self.lora is not None and self.frozen:
            raise ValueError("with `lora` all but the adapters and its `whole` parts is frozen: leave `frozen` out")
        if self.lora is not None and self.lora.dropout and self.quantization is not None:
            raise ValueError("with `quantization` a weight is rounded with its adapter in it, and dropout has nothing to drop: give `lora.dropout` 0")
        return self
