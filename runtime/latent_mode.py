"""Latent mode: the spans that follow from a configuration and from what the model was trained for.

Here: the parameters of spans, and why there are none. Not here: limits of a configuration (limits.py), running a span (engine/latent.py).
"""

from __future__ import annotations

from interlock.contracts.checkpoint import LatentTraining, TokenizerInfo, Training
from interlock.errors import UsageError
from runtime.config import RuntimeConfig
from runtime.engine.latent import LatentParams
from runtime.limits import Model, capped, check_limits


def latent_params(config: RuntimeConfig, info: TokenizerInfo, training: Training | None, where: str, slots: int | None = None) -> LatentParams:
    """The spans of a configuration with latent mode on. slots: of each span, None: the halt head decides where it was taught to read slots and is
    on, else every span is as long as the limits allow.

    Raises ContractError beyond the training, UsageError for a number of slots that was not trained, and for a tokenizer without the two tokens.
    """
    check_limits(config, training, where)
    assert training and training.latent  # limit_violations says so
    config = capped(config, Model(training))
    if info.bot_id is None or info.eot_id is None:
        raise UsageError("the tokenizer has no `<bot>` and `<eot>`, between which a latent span lies", remedy="leave latent mode off")
    most = config.max_latent_length
    if slots is not None:
        _check_slots(slots, most, training.latent)
    halts = config.halt_head_enabled and training.halt is not None and training.halt.reads == "slot"
    return LatentParams(
        bot_id=info.bot_id,
        eot_id=info.eot_id,
        max_spans=config.max_latent_spans,
        max_slots=most,
        slots_per_step=training.latent.slots_per_step,
        fixed_slots=slots or (None if halts else most),
        halt_threshold=config.halt_probability_threshold if halts else None,
        forced=config.curriculum_probability,
    )


def _check_slots(slots: int, most: int, latent: LatentTraining) -> None:
    each = latent.slots_per_step
    if slots < 1 or slots % each or slots > most:
        counts = f"{each} to {most}" if each == 1 else f"multiples of {each} up to {most}"
        raise UsageError(f"the model was not trained for spans of {slots} latent slots", remedy=f"it can run {counts}")
