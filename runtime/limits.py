"""What a runtime configuration may ask of a model: latent spans as it was trained for, and no others.

Here: the comparison of a configuration with the training that a contract names. Not here: the fields (config.py), the spans that follow from both
(latent_mode.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from interlock.contracts.checkpoint import Training
from interlock.errors import ContractError, Violation
from runtime.config import RuntimeConfig

REMEDY = "deploy again for limits of the model's own, leave latent mode off, or train a checkpoint for what is wanted"


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
