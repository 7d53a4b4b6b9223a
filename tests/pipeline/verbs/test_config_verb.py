"""Verb `config`: what holds and who set it, as people and programs read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.latent_students import known_student, trained, write_checkpoint
from fakes.shell import interlock

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("config") / "checkpoint", known_student(), trained(slots_per_step=2))


def test_show_names_source_and_cut_of_every_field(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"latent_mode_enabled": True, "max_latent_length": 5, "temperature": 0.5}))
    words = ("config", "show", folder, "--config", file, "--max-loops", 9)
    said = interlock(*words, "--json", environ={"CAWS_TIER": "tier_3", "TEMPERATURE": "0.25"})
    assert said.code == 0, said.err
    fields = json.loads(said.out)["fields"]
    assert len(fields) == 13
    assert fields["max_refinement_loops"] == {"value": 3, "source": "command line", "asked": 9, "cut": "tier_3 allows 3"}
    assert fields["max_latent_length"] == {"value": 4, "source": f"file {file}", "asked": 5, "cut": "the model's steps have 2 slots"}
    assert fields["temperature"] == {"value": 0.25, "source": "environment TEMPERATURE", "asked": 0.25, "cut": None}
    assert fields["curriculum_slots"] == {"value": 2, "source": "training", "asked": 2, "cut": None}
    assert fields["max_new_tokens"]["source"] == "default" and fields["caws_tier"]["value"] == "tier_3"
    table = interlock(*words).out
    assert "command line" in table and "from 9: tier_2 allows 2" in table and "halt_probability_threshold" in table
    assert table.endswith(f"\nfile {file}\n") and table.count(str(file)) == 1


def test_what_cannot_hold_is_refused_with_its_source(folder: Path, tmp_path: Path) -> None:
    interlock("config", "show", folder, "--latent", "--max-latent-length", 99).refused(3, "command line at /max_latent_length", "found 99")
    interlock("config", "show", environ={"CAWS_TIER": "tier_9"}).refused(2, "`CAWS_TIER` is `tier_9`")
    interlock("config", "show", tmp_path).refused(3, "deployed directory or a checkpoint")


def test_check_says_whether_a_file_is_one_and_for_a_model(folder: Path, tmp_path: Path) -> None:
    good, bad, foreign = (tmp_path / name for name in ("good.json", "bad.json", "foreign.json"))
    good.write_text(json.dumps({"caws_tier": "tier_1", "max_refinement_loops": 5}))
    bad.write_text(json.dumps({"surprise": 1, "temperature": -1}))
    foreign.write_text(json.dumps({"latent_mode_enabled": True, "max_latent_length": 99}))
    said = interlock("config", "check", good, "--json")
    assert said.code == 0 and json.loads(said.out)["cut"] == {"max_refinement_loops": "tier_1 allows 1", "max_latent_spans": "tier_1 allows 0"}
    interlock("config", "check", bad).refused(3, "/surprise", "/temperature")
    assert interlock("config", "check", foreign).code == 0
    interlock("config", "check", foreign, folder).refused(3, "/max_latent_length", "2 to 6, as the model was trained")
