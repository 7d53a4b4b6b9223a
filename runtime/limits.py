"""What a runtime configuration may ask: within its tier, and of a model what it was trained for.

Here: what a limit makes of a value, and what is refused. Not here: the fields (config.py), where a value comes from (effective.py), the spans that
follow (latent_mode.py).
Two ways to be limited: a budget is cut, and the cut is told; what a model was never taught is refused, because nothing near it would be right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from interlock.contracts.checkpoint import Training
from interlock.errors import ContractError, Violation
from runtime.config import RuntimeConfig

REMEDY = "deploy again for limits of the model's own, leave latent mode off, or train a checkpoint for what is wanted"


@dataclass(frozen=True)
class Model:
    """What limits of a model follow from. training: None where nothing was trained."""

    training: Training | None


@dataclass(frozen=True)
class Cut:
    """What holds in place of what was asked for, and why."""

    value: Any
    why: str


def trained_limits(training: Training | None) -> dict[str, Any]:
    """The fields of a configuration that a training decides, as keyword arguments of RuntimeConfig."""
    found: dict[str, Any] = {}
    if training and training.latent:
        found |= {"curriculum_slots": training.latent.slots_per_step, "max_latent_length": training.latent.max_slots}
    if training and training.halt:
        found["halt_probability_threshold"] = training.halt.threshold
    return found


def usual_config(training: Training | None) -> RuntimeConfig:
    """Of a model that has no configuration: greedy, within the limits of its training."""
    halts = training is not None and training.halt is not None
    return RuntimeConfig(temperature=0.0, halt_head_enabled=halts, **trained_limits(training))


def cuts(config: RuntimeConfig, model: Model | None) -> dict[str, Cut]:
    """By field, what is cut. model: None where only the file is known, and then the tier alone cuts.

    A tier is the least of itself and the configuration. A span is cut to whole steps of the model; a halt head that no training says how to read is
    not asked.
    """
    tier, found = config.caws_tier, {}
    if config.max_refinement_loops > tier.max_loops:
        found["max_refinement_loops"] = Cut(tier.max_loops, f"{tier.value} allows {tier.max_loops}")
    if config.max_latent_spans > tier.max_latent_spans:
        found["max_latent_spans"] = Cut(tier.max_latent_spans, f"{tier.value} allows {tier.max_latent_spans}")
    if model is None:
        return found
    latent, each = model.training.latent if model.training else None, config.curriculum_slots
    if config.latent_mode_enabled and latent and each and config.max_latent_length % each:
        found["max_latent_length"] = Cut(config.max_latent_length - config.max_latent_length % each, f"the model's steps have {each} slots")
    if config.halt_head_enabled and (model.training is None or model.training.halt is None):
        found["halt_head_enabled"] = Cut(False, "the model has no halt head that was trained")
    return found


def capped(config: RuntimeConfig, model: Model | None) -> RuntimeConfig:
    """The configuration after every cut."""
    return config.model_copy(update={name: cut.value for name, cut in cuts(config, model).items()})


def limit_violations(config: RuntimeConfig, training: Training | None, where: str) -> Iterator[Violation]:
    """All that the model was not trained for. where: the file that the configuration comes from. Nothing where latent mode is off: the fields then
    have no effect."""
    latent = training.latent if training else None
    if not config.latent_mode_enabled:
        return
    if latent is None:
        yield Violation(where, "/latent_mode_enabled", "false: the model has no latent training", "true")
        return
    if config.curriculum_slots != latent.slots_per_step:
        yield Violation(where, "/curriculum_slots", f"{latent.slots_per_step}, as the model was trained", str(config.curriculum_slots))
    if not latent.slots_per_step <= config.max_latent_length <= latent.max_slots:
        expected = f"{latent.slots_per_step} to {latent.max_slots}, as the model was trained"
        yield Violation(where, "/max_latent_length", expected, str(config.max_latent_length))


def check_limits(config: RuntimeConfig, training: Training | None, where: str) -> None:
    """Raises ContractError with every violation."""
    if wrong := list(limit_violations(config, training, where)):
        raise ContractError(*wrong, remedy=REMEDY)
