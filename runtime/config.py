"""RuntimeConfig: how a deployed student is run, in the guide's fields.

Here: the fields, their ranges, the file, the names of variables, what a tier allows. Not here: which source wins (effective.py), what a limit makes
of a value (limits.py), what latent mode or refinement does.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interlock.contracts.strict import parse_json, validate
from interlock.errors import UsageError


class CawsTier(str, Enum):
    """CAWS budget: how many refinement loops and latent spans a request may use."""

    tier_1 = "tier_1"
    tier_2 = "tier_2"
    tier_3 = "tier_3"

    @property
    def max_loops(self) -> int:
        return {"tier_1": 1, "tier_2": 2, "tier_3": 3}[self.value]

    @property
    def max_latent_spans(self) -> int:
        return {"tier_1": 0, "tier_2": 1, "tier_3": 3}[self.value]


Unit = Annotated[float, Field(ge=0, le=1)]


class RuntimeConfig(BaseModel):
    """The guide's thirteen fields with its defaults. Unknown fields and values out of range are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    latent_mode_enabled: bool = False
    halt_head_enabled: bool = False
    caws_tier: CawsTier = CawsTier.tier_2
    max_refinement_loops: Annotated[int, Field(ge=1, le=100)] = 5
    judge_score_threshold: Unit = 0.8
    halt_probability_threshold: Unit = 0.7
    curriculum_probability: Unit = 1.0
    curriculum_slots: Annotated[int, Field(ge=0, le=1024)] = 1
    max_latent_spans: Annotated[int, Field(ge=0, le=1024)] = 10
    max_latent_length: Annotated[int, Field(ge=1, le=1 << 20)] = 100
    temperature: Annotated[float, Field(ge=0, le=100)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1, le=1 << 24)] = 256
    enable_efficiency_tracking: bool = True

    @classmethod
    def from_file(cls, path: str | Path) -> RuntimeConfig:
        """Read a configuration file. Raises ContractError with every violation."""
        path = Path(path)
        remedy = "see docs/contracts.md for the fields of runtime_config.json"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"`{path}` cannot be read ({error.strerror})", remedy="name an existing runtime_config.json") from None
        return validate(cls, parse_json(data, str(path), remedy=remedy), str(path), remedy=remedy)

    def to_json(self) -> bytes:
        return (self.model_dump_json(indent=2) + "\n").encode()


def validated_over(values: Mapping[str, Any], over: Mapping[str, Any], sources: Mapping[str, str]) -> RuntimeConfig:
    """`over` put over `values`. Words of an environment are read as such ("1", "true", "0.8"), unlike a file's. Raises UsageError with the source."""
    try:
        return RuntimeConfig.model_validate({**values, **over})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        source, told = sources[field], f"`{over[field]}`: {first['msg'].lower()}"
        if source.startswith("environment "):
            name = source.removeprefix("environment ")
            raise UsageError(f"environment variable `{name}` is {told}", remedy=f"correct or unset {name}") from None
        raise UsageError(f"`{field}` ({source}) is {told}", remedy="give a value in its range: docs/contracts.md has the table") from None


ENVIRONMENT = {
    "LATENT_MODE": "latent_mode_enabled",
    "HALT_HEAD": "halt_head_enabled",
    "CAWS_TIER": "caws_tier",
    "MAX_REFINEMENT_LOOPS": "max_refinement_loops",
    "JUDGE_THRESHOLD": "judge_score_threshold",
    "HALT_THRESHOLD": "halt_probability_threshold",
    "CURRICULUM_P": "curriculum_probability",
    "CURRICULUM_SLOTS": "curriculum_slots",
    "MAX_LATENT_SPANS": "max_latent_spans",
    "MAX_LATENT_LENGTH": "max_latent_length",
    "TEMPERATURE": "temperature",
    "MAX_NEW_TOKENS": "max_new_tokens",
    "EFFICIENCY_TRACKING": "enable_efficiency_tracking",
}
