"""The guide's Python example, and what its words mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import guide
from fakes.byte_tokenizer import byte_tokenizer
from fakes.latent_students import ANSWER, known_student, tokenizer_json, trained, write_checkpoint

import runtime.orchestration
from interlock.errors import ContractError, UsageError
from runtime.config import RuntimeConfig
from runtime.load import load
from runtime.orchestration.inference import create_inference_orchestrator_from_checkpoint
from runtime.orchestration.judges.verdict import Verdict

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    write_checkpoint(folder / "model.pt", known_student(), trained())
    config = {"latent_mode_enabled": True, "halt_head_enabled": True, "caws_tier": "tier_2"}
    (folder / "runtime_config.json").write_bytes(RuntimeConfig.model_validate(config).to_json())
    (folder / "small.json").write_text(json.dumps({"latent_mode_enabled": True}))
    return folder


def test_the_guides_example_runs_unchanged(folder: Path, tmp_path: Path) -> None:
    scope = guide.orchestrator(folder / "model.pt", folder / "runtime_config.json", tmp_path, load(folder / "model.pt").tokenizer)
    assert scope["output"] == ANSWER
    result = scope["result"]
    assert isinstance(result, dict) and json.loads(json.dumps(result)) == result
    assert (result["output"], result["final_score"], result["total_loops"], result["halt_reason"]) == (ANSWER, 0.9, 1, "judge_score_threshold")
    assert result["latent_mode_used"] and result["halt_head_used"] and result["curriculum_applied"]
    (loop,) = result["refinement_history"]
    assert (loop["loop"], loop["output"], loop["score"], loop["latent_spans_used"]) == (1, ANSWER, 0.9, 1)
    assert [one["mode"] for one in loop["mode_transitions"]] == ["latent", "language"] and len(loop["halt_logits"]) == 2


def test_every_source_of_a_librarys_configuration(folder: Path) -> None:
    made = runtime.orchestration.load(folder / "model.pt", config=folder / "small.json", environ={"MAX_NEW_TOKENS": "7"}, judge_score_threshold=0.5)
    sources = {name: made.resolved.fields[name].source for name in ("latent_mode_enabled", "max_new_tokens", "judge_score_threshold")}
    assert sources == {
        "latent_mode_enabled": f"file {folder / 'small.json'}", "max_new_tokens": "environment MAX_NEW_TOKENS",
        "judge_score_threshold": "argument",
    }  # fmt: skip
    assert made.params.max_new_tokens == 7 and made.rules.judge_score == 0.5 and made.rules.max_loops == 2


def test_no_variable_reaches_a_library_unasked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENT_MODE", "1")
    assert runtime.orchestration.load(folder / "model.pt").generate_simple("a") == "bcde z"


def test_whatever_a_file_says_a_tier_wins(folder: Path) -> None:
    made = runtime.orchestration.load(folder / "model.pt", latent_mode_enabled=True, caws_tier="tier_1", max_refinement_loops=100)
    result = made.generate_with_refinement("a", judge_fn=lambda _output: 0.0)
    assert (result["total_loops"], result["latent_mode_used"], result["curriculum_applied"], result["output"]) == (1, False, False, "bcde z")
    assert not result["halt_head_used"]  # it was taught to end spans, and there was none


def test_a_verdict_may_say_more_than_a_score_and_only_one_judge_is_given(folder: Path) -> None:
    made = runtime.orchestration.load(folder / "model.pt")
    result = made.generate_with_refinement("a", lambda output: Verdict(0.0, "say z", 2, {"seen": output}))
    assert [one["feedback"] for one in result["refinement_history"]] == ["say z", "say z"]
    assert result["refinement_history"][0]["judge"] == {"seen": "bcde z"} and result["refinement_history"][0]["failing"] == 2
    with pytest.raises(UsageError, match="both given"):
        made.generate_with_refinement("a", lambda _output: 1.0, judge=lambda _request, _output: Verdict(1.0))
    for score in (1.5, float("nan"), -0.1):
        with pytest.raises(UsageError, match="a judge gave the score"):
            made.generate_with_refinement("a", lambda _output, score=score: score)  # type: ignore[misc]


def test_efficiency_is_tracked_unless_it_is_not_wanted(folder: Path) -> None:
    tracked = runtime.orchestration.load(folder / "model.pt", latent_mode_enabled=True).generate_with_refinement("a", lambda _output: 1.0)
    assert tracked["efficiency"]
    # `<bot>` with the prompt, four slots, `<eot>`, and three tokens of which the last is not fed
    counted = {name: tracked["efficiency"][name] for name in ("generated_tokens", "latent_slots", "latent_spans_used", "forward_passes")}
    assert counted == {"generated_tokens": 3, "latent_slots": 4, "latent_spans_used": 1, "forward_passes": 8}
    quiet = runtime.orchestration.load(folder / "model.pt", enable_efficiency_tracking=False).generate_with_refinement("a", lambda _output: 1.0)
    assert quiet["efficiency"] is None


def test_the_tokenizer_must_be_the_models_own(folder: Path) -> None:
    import tokenizers

    own = tokenizers.Tokenizer.from_str(tokenizer_json().decode())
    assert create_inference_orchestrator_from_checkpoint(folder / "model.pt", own).generate_simple("a") == "bcde z"
    other = tokenizers.Tokenizer.from_str(tokenizer_json().decode())
    other.add_tokens(["more"])
    for foreign in (other, byte_tokenizer(), object()):
        with pytest.raises(UsageError, match="not the model's own"):
            create_inference_orchestrator_from_checkpoint(folder / "model.pt", foreign)


def test_an_exported_file_stands_for_its_directory_and_nothing_else_is_opened(folder: Path) -> None:
    assert create_inference_orchestrator_from_checkpoint(folder / "model.pt" / "model.safetensors").generate_simple("a") == "bcde z"
    with pytest.raises(ContractError, match="deployed directory or a checkpoint"):
        create_inference_orchestrator_from_checkpoint(folder / "missing.pt")


def test_a_model_without_latent_training_refuses_latent_mode(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "plain", known_student(), None)
    with pytest.raises(ContractError) as refused:
        create_inference_orchestrator_from_checkpoint(tmp_path / "plain", latent_mode_enabled=True)
    assert [(one.file, one.where) for one in refused.value.violations] == [("argument", "/latent_mode_enabled")]
