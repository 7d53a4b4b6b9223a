"""RuntimeConfig: the guide's fields and its file, strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interlock.errors import ContractError
from runtime.config import ENVIRONMENT, CawsTier, RuntimeConfig

# The guide's sample configuration, field for field.
GUIDE = {
    "latent_mode_enabled": True, "halt_head_enabled": True, "caws_tier": "tier_2", "max_refinement_loops": 5, "judge_score_threshold": 0.8,
    "halt_probability_threshold": 0.7, "curriculum_probability": 1.0, "curriculum_slots": 1, "max_latent_spans": 10, "max_latent_length": 100,
    "temperature": 1.0, "max_new_tokens": 256, "enable_efficiency_tracking": True,
}  # fmt: skip


def written(tmp_path: Path, document: object) -> Path:
    file = tmp_path / "runtime_config.json"
    file.write_text(json.dumps(document))
    return file


def test_the_guides_file_reads_and_writes_back_equal(tmp_path: Path) -> None:
    config = RuntimeConfig.from_file(written(tmp_path, GUIDE))
    assert json.loads(config.to_json()) == GUIDE


@pytest.mark.parametrize(
    ("changes", "where"),
    [({"caws_tier": "tier_9"}, "/caws_tier"), ({"temperature": -1}, "/temperature"), ({"max_new_tokens": 0}, "/max_new_tokens"),
     ({"judge_score_threshold": 7}, "/judge_score_threshold"), ({"surprise": 1}, "/surprise")],
)  # fmt: skip
def test_what_the_guides_code_lets_through_is_refused(tmp_path: Path, changes: dict[str, object], where: str) -> None:
    with pytest.raises(ContractError) as refused:
        RuntimeConfig.from_file(written(tmp_path, GUIDE | changes))
    assert [violation.where for violation in refused.value.violations] == [where]


def test_every_field_has_a_variable() -> None:
    assert set(ENVIRONMENT.values()) == set(RuntimeConfig.model_fields) == set(GUIDE)


def test_tiers_are_the_guides_table() -> None:
    assert [(tier.max_loops, tier.max_latent_spans) for tier in CawsTier] == [(1, 0), (2, 1), (3, 3)]
