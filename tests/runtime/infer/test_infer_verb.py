"""Verb `infer` over a student whose steps are known: what each option of a configuration field does, refinement, the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.latent_students import known_student, trained, write_checkpoint

from interlock.command import Session, parser
from interlock.errors import UsageError
from interlock.voice import SilentVoice
from runtime import infer
from runtime.config import RuntimeConfig

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("infer") / "checkpoint", known_student(), trained())


class Asked:
    """`infer --prompt a --json` with more words."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys

    def __call__(self, *words: object) -> dict[str, Any]:
        options = parser("interlock infer", "", "")
        infer.add_options(options)
        args = options.parse_args([str(self._folder), "--prompt", "a", "--json", *map(str, words)])
        assert infer.run(args, Session("infer", SilentVoice(), (), launch=False)) == 0
        found: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return found


@pytest.fixture
def asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(folder, capsys)


def test_every_option_of_a_field_changes_what_comes(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = asked()
    assert plain["text"] == "bcde z" and "latent" not in plain and plain["efficiency"]["forward_passes"] == 7
    assert asked("--max-new-tokens", 3)["text"] == "bcd"
    assert "efficiency" not in asked("--no-track-efficiency")
    latent = asked("--latent")
    assert latent["text"] == " z" and latent["latent"]["spans"][0]["ended"] == "halt"
    assert asked("--latent", "--no-halt-head")["latent"]["spans"][0]["slots"] == 6
    assert asked("--latent", "--max-latent-length", 2)["latent"]["spans"][0]["slots"] == 2
    assert asked("--latent", "--halt-threshold", 0.001)["latent"]["spans"][0]["slots"] == 1
    assert asked("--latent", "--curriculum-probability", 0)["latent"]["spans"] == []
    with pytest.raises(UsageError, match="allows no latent span"):
        asked("--latent", "--max-latent-spans", 0)
    with pytest.raises(UsageError, match="tier_1"):
        asked("--latent", "--caws-tier", "tier_1")
    assert len({asked("--temperature", 50, "--seed", seed)["text"] for seed in range(4)}) > 1
    monkeypatch.setenv("LATENT_MODE", "1")
    assert asked()["text"] == " z" and asked("--no-latent")["text"] == "bcde z"


@pytest.mark.parametrize(("tier", "loops"), [("tier_1", 1), ("tier_2", 2), ("tier_3", 3)])
def test_refinement_has_its_tiers_loops_scores_and_reasons(asked: Asked, tier: str, loops: int) -> None:
    made = asked("--refine", "--judge", "contains:q", "--judge", "contains:b", "--tier", tier)
    refinement = made["refinement"]
    assert (refinement["total_loops"], refinement["halt_reason"], refinement["final_score"]) == (loops, "max_loops_reached", 0.0)
    assert [one["halt_reason"] for one in refinement["refinement_history"]] == [None] * (loops - 1) + ["max_loops_reached"]
    assert refinement["refinement_history"][0]["feedback"] == "It must contain `q`."
    assert made["text"] == "bcde z" and made["efficiency"]["refinement_loops"] == loops


def test_a_judge_that_is_content_ends_it_and_its_threshold_counts(asked: Asked, tmp_path: Path) -> None:
    judge = tmp_path / "judge.toml"
    judge.write_text('[[judge]]\nkind = "rules"\ncontains = ["b", "q"]\n')
    assert asked("--refine", "--judge", judge)["refinement"]["total_loops"] == 2
    content = asked("--refine", "--judge", judge, "--judge-threshold", 0.5)["refinement"]
    assert (content["total_loops"], content["final_score"], content["halt_reason"]) == (1, 0.5, "judge_score_threshold")
    assert asked("--use-refinement", "--judge", judge, "--tier", "tier_3", "--max-loops", 1)["refinement"]["total_loops"] == 1


def test_a_configuration_file_is_a_source_like_any_other(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"max_new_tokens": 2, "temperature": 0}))
    assert asked("--config", file)["text"] == "bc"
    monkeypatch.setenv("MAX_NEW_TOKENS", "3")
    assert asked("--config", file)["text"] == "bcd" and asked("--config", file, "--max-new-tokens", 4)["text"] == "bcde"


@pytest.mark.parametrize("words", [("--judge", "contains:a"), ("--max-loops", 2), ("--judge-threshold", 0.5), ("--latent-slots", 2), ("--in", "x")])
def test_an_option_that_would_do_nothing_is_refused(asked: Asked, words: tuple[object, ...]) -> None:
    with pytest.raises(UsageError, match=r"belongs to|go together"):
        asked(*words)


def test_one_result_and_a_file_of_them_are_not_asked_for_at_once(folder: Path) -> None:
    options = parser("interlock infer", "", "")
    infer.add_options(options)
    with pytest.raises(UsageError, match="--output is of one prompt"):
        infer.run(options.parse_args([str(folder), "--in", "x", "--out", "y", "--output", "z"]), Session("infer", SilentVoice(), (), launch=False))


def test_a_file_of_prompts_and_its_summary(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = parser("interlock infer", "", "")
    infer.add_options(options)
    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "id": "x"}\n{"prompt": "c"}\n')
    words = [str(folder), "--in", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl"), "--json", "--refine", "--judge", "contains:b"]
    assert infer.run(options.parse_args(words), Session("infer", SilentVoice(), (), launch=False)) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["text"], row["refinement"]["total_loops"]) for row in rows] == [("x", "bcde z", 1), ("2", "de z", 2)]
    found = json.loads(capsys.readouterr().out)
    costs = [row["efficiency"] for row in rows]
    assert found["requests"] == 2 and found["efficiency"]["refinement_loops"] == {"total": 3, "mean": 1.5, "median": 1.5, "most": 2}
    assert found["efficiency"]["wall_clock_time_ms"]["total"] == pytest.approx(sum(cost["wall_clock_time_ms"] for cost in costs))
    assert found["efficiency"]["peak_rss_bytes"]["most"] == max(cost["peak_rss_bytes"] for cost in costs) > 50e6
    capsys.readouterr()
    infer.run(options.parse_args([*words, "--no-track-efficiency"]), Session("infer", SilentVoice(), (), launch=False))
    assert "efficiency" not in json.loads(capsys.readouterr().out)


def test_each_field_but_one_has_an_option_without_a_default() -> None:
    options = parser("interlock infer", "", "")
    infer.add_options(options)
    dests = {action.dest: action.default for action in options._actions}
    assert {name for name in RuntimeConfig.model_fields if name not in dests} == {"curriculum_slots"}
    assert all(dests[name] is None for name in RuntimeConfig.model_fields if name in dests)
