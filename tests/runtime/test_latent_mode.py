"""A model runs the latent spans that it was trained for, and the reason is told where others are asked for."""

from __future__ import annotations

import pytest
from fakes.latent_students import BOT, EOT, tokenizer_info, trained

from interlock.errors import ContractError, UsageError
from runtime.config import CawsTier, RuntimeConfig
from runtime.latent_mode import latent_params
from runtime.limits import check_limits, trained_limits, usual_config


def config(**changes: object) -> RuntimeConfig:
    fields = {"latent_mode_enabled": True, "halt_head_enabled": True, **trained_limits(trained())} | changes
    return RuntimeConfig(**fields)  # type: ignore[arg-type]


def test_spans_follow_from_training_tier_and_configuration() -> None:
    params = latent_params(config(), tokenizer_info(), trained(), "here")
    assert (params.bot_id, params.eot_id, params.max_slots, params.slots_per_step) == (BOT, EOT, 6, 1)
    assert (params.fixed_slots, params.halt_threshold, params.max_spans) == (None, 0.7, 1)  # tier_2 allows one of the configuration's ten
    assert latent_params(config(caws_tier=CawsTier.tier_1), tokenizer_info(), trained(), "here").max_spans == 0
    assert latent_params(config(max_latent_spans=2, caws_tier=CawsTier.tier_3), tokenizer_info(), trained(), "here").max_spans == 2
    assert latent_params(config(halt_probability_threshold=0.9), tokenizer_info(), trained(), "here").halt_threshold == 0.9


@pytest.mark.parametrize(("halt_trained", "halt_on"), [(False, True), (True, False)])
def test_without_a_head_that_reads_slots_a_span_is_as_long_as_allowed(halt_trained: bool, halt_on: bool) -> None:
    params = latent_params(config(halt_head_enabled=halt_on), tokenizer_info(), trained(halt=halt_trained), "here")
    assert (params.fixed_slots, params.halt_threshold) == (6, None)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"curriculum_slots": 2}, "/curriculum_slots"),
        ({"max_latent_length": 7}, "/max_latent_length"),
        ({"max_latent_length": 100}, "/max_latent_length"),
    ],
)
def test_a_configuration_beyond_the_training_is_refused(changes: dict[str, object], place: str) -> None:
    with pytest.raises(ContractError) as refused:
        latent_params(config(**changes), tokenizer_info(), trained(), "there")
    (found,) = refused.value.violations
    assert (found.file, found.where) == ("there", place)


def test_a_model_without_latent_training_is_refused() -> None:
    for training in (None, trained().model_copy(update={"latent": None})):
        with pytest.raises(ContractError, match="no latent training"):
            latent_params(config(), tokenizer_info(), training, "there")


@pytest.mark.parametrize(("slots", "counts"), [(0, "1 to 6"), (7, "1 to 6"), (3, "multiples of 2 up to 6"), (8, "multiples of 2 up to 6")])
def test_a_number_of_slots_that_was_not_trained_is_refused(slots: int, counts: str) -> None:
    training = trained(slots_per_step=1 if slots in (0, 7) else 2)
    with pytest.raises(UsageError, match=f"{slots} latent slots") as refused:
        latent_params(config(**trained_limits(training)), tokenizer_info(), training, "here", slots)
    assert counts in refused.value.remedy


def test_a_tokenizer_without_the_two_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="<bot>"):
        latent_params(config(), tokenizer_info().model_copy(update={"bot_id": None}), trained(), "here")


def test_latent_mode_off_has_no_limits() -> None:
    """The defaults of a configuration say 100 slots; only who switches latent mode on asks for them."""
    check_limits(RuntimeConfig(), trained(), "here")
    check_limits(RuntimeConfig(), None, "here")


def test_a_checkpoint_has_the_limits_of_its_training() -> None:
    made = usual_config(trained(slots_per_step=2))
    assert (made.curriculum_slots, made.max_latent_length, made.halt_head_enabled, made.halt_probability_threshold) == (2, 6, True, 0.7)
    assert usual_config(None) == RuntimeConfig(temperature=0.0)
