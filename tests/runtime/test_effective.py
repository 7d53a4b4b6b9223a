"""What holds: command line over environment over file over training over defaults, the tier last, and each value says who set it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.latent_students import MAX_SLOTS, THRESHOLD, known_student, trained, write_checkpoint
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import ContractError, UsageError
from runtime.config import ENVIRONMENT, CawsTier, RuntimeConfig
from runtime.effective import File, of_directory, read_file, resolve
from runtime.limits import Model

# Two legal values of each field, apart from its default.
OTHERS: dict[str, tuple[Any, Any, Any]] = {
    "latent_mode_enabled": (True, False, True), "halt_head_enabled": (True, False, True), "caws_tier": ("tier_3", "tier_1", "tier_2"),
    "max_refinement_loops": (1, 2, 3), "judge_score_threshold": (0.1, 0.2, 0.3), "halt_probability_threshold": (0.4, 0.5, 0.6),
    "curriculum_probability": (0.1, 0.2, 0.3), "curriculum_slots": (2, 3, 4), "max_latent_spans": (0, 1, 2), "max_latent_length": (7, 8, 9),
    "temperature": (0.0, 0.5, 2.0), "max_new_tokens": (1, 2, 3), "enable_efficiency_tracking": (False, True, False),
}  # fmt: skip
VARIABLE = {field: name for name, field in ENVIRONMENT.items()}
SUBSETS = st.sets(st.sampled_from(sorted(OTHERS)))


def plain(value: object) -> object:
    return getattr(value, "value", value)


@given(in_file=SUBSETS, in_environment=SUBSETS, on_line=SUBSETS)
def test_the_nearest_source_wins_and_is_named(in_file: set[str], in_environment: set[str], on_line: set[str]) -> None:
    """Against a dictionary that the sources are put into, farthest first."""
    file = File("there.json", RuntimeConfig.model_validate({name: OTHERS[name][0] for name in in_file}))
    environ = {VARIABLE[name]: str(OTHERS[name][1]) for name in in_environment} | {"PATH": "/bin"}
    found = resolve(file, environ=environ, given={name: OTHERS[name][2] for name in on_line})
    expected: dict[str, tuple[object, str]] = {name: (plain(value), "default") for name, value in RuntimeConfig().model_dump().items()}
    expected |= {name: (OTHERS[name][0], "file there.json") for name in in_file}
    expected |= {name: (OTHERS[name][1], f"environment {VARIABLE[name]}") for name in in_environment}
    expected |= {name: (OTHERS[name][2], "command line") for name in on_line}
    assert {name: (plain(one.asked), one.source) for name, one in found.fields.items()} == expected


CONFIGS = st.builds(
    RuntimeConfig, caws_tier=st.sampled_from(CawsTier), max_refinement_loops=st.integers(1, 100), max_latent_spans=st.integers(0, 1024),
    max_latent_length=st.integers(2, MAX_SLOTS), curriculum_slots=st.just(2), latent_mode_enabled=st.booleans(), halt_head_enabled=st.booleans(),
)  # fmt: skip


@given(config=CONFIGS)
def test_a_limit_is_the_least_of_tier_and_configuration_whoever_asked(config: RuntimeConfig) -> None:
    given_all = config.model_dump()
    model = Model(trained(slots_per_step=2))
    for source in ({"file": File("x", RuntimeConfig.model_validate(given_all))}, {"given": given_all}):
        held = resolve(model=model, **source)
        loops, spans = {"tier_1": (1, 0), "tier_2": (2, 1), "tier_3": (3, 3)}[config.caws_tier.value]
        assert held.config.max_refinement_loops == min(loops, config.max_refinement_loops)
        assert held.config.max_latent_spans == min(spans, config.max_latent_spans)
        if config.latent_mode_enabled:
            assert held.config.max_latent_length % 2 == 0 and 0 <= config.max_latent_length - held.config.max_latent_length < 2
        cut = {name for name, one in held.fields.items() if one.cut}
        assert cut == {name for name, one in held.fields.items() if one.value != one.asked}
        assert {name: one.value for name, one in held.fields.items()} == held.config.model_dump()


def test_a_model_without_a_file_is_run_as_it_was_trained() -> None:
    held = resolve(model=Model(trained(slots_per_step=2)))
    assert {name: one.source for name, one in held.fields.items() if one.source == "training"}.keys() == {
        "halt_head_enabled", "halt_probability_threshold", "curriculum_slots", "max_latent_length",
    }  # fmt: skip
    assert held.config.temperature == 0 and held.config.halt_probability_threshold == THRESHOLD and held.config.max_latent_length == MAX_SLOTS


def test_a_head_that_was_not_trained_is_off_and_who_asked_for_it_is_told() -> None:
    held = resolve(model=Model(None), environ={"HALT_HEAD": "1"})
    assert not held.config.halt_head_enabled
    assert held.surprises() == ["halt_head_enabled is False and not True (environment HALT_HEAD): the model has no halt head that was trained"]
    assert resolve(File("x", RuntimeConfig(halt_head_enabled=True)), Model(None)).surprises() == []  # nobody asked in so many words


def test_what_a_model_was_never_trained_for_is_refused_by_its_source() -> None:
    with pytest.raises(ContractError) as refused:
        resolve(model=Model(trained()), environ={"LATENT_MODE": "1", "MAX_LATENT_LENGTH": "7"}, given={"curriculum_slots": 2})
    assert [(one.file, one.where, one.found) for one in refused.value.violations] == [
        ("command line", "/curriculum_slots", "2"), ("environment MAX_LATENT_LENGTH", "/max_latent_length", "7"),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [("CAWS_TIER", "tier_9"), ("TEMPERATURE", "hot"), ("HALT_HEAD", "perhaps"), ("MAX_NEW_TOKENS", "1.5")])
def test_a_bad_variable_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is `{value}`"):
        resolve(environ={name: value})


def test_a_bad_value_or_name_of_a_caller_is_named() -> None:
    with pytest.raises(UsageError, match=r"`temperature` \(argument\) is `-1`"):
        resolve(given={"temperature": -1}, giver="argument")
    with pytest.raises(UsageError, match=r"`surprise`.*not permitted"):
        resolve(given={"surprise": 1})


def test_a_directory_is_asked_through_its_contracts(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", known_student(), trained())
    assert of_directory(folder) == (None, Model(trained()))
    with pytest.raises(ContractError, match="deployed directory or a checkpoint"):
        of_directory(tmp_path)
    (tmp_path / "c.json").write_text(json.dumps({"temperature": 0.5}))
    held = resolve(read_file(tmp_path / "c.json"), of_directory(folder)[1])
    assert held.fields["temperature"].source == f"file {tmp_path / 'c.json'}" and held.config.max_latent_length == MAX_SLOTS
