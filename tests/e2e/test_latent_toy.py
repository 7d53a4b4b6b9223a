"""A student whose latent steps are known, from its checkpoint to a deployed package that is asked and evaluated, in real processes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fakes import alike, clusters, guide, shell
from fakes.artifacts import resealed
from fakes.doctors import looked
from fakes.latent_students import ANSWER, MAX_SLOTS, THRESHOLD, known_student, trained, write_checkpoint
from fakes.makers import maker
from fakes.served import served
from fakes.shell import interlock

import runtime.orchestration
from interlock.contracts import dataset, deployment, evaluation, export, io, package
from interlock.contracts.base import Contract
from interlock.environments import ROOT
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.contents import inheritance_violations
from pipeline.doctor.place import Place
from pipeline.driver.store import Store
from pipeline.verify import verify
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import GenerationParams
from runtime.latent_mode import latent_params
from runtime.load import BackendName, Loaded, load

pytestmark = pytest.mark.e2e
C = TypeVar("C", bound=Contract)

RECIPE = """
description = "a student whose latent steps are known"
output = "{folder}"
toy = true
[source]
checkpoint = "{folder}/checkpoint"
[export]
lengths = [32]
[deploy]
halt_head = true
latent_mode = true
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    write_checkpoint(folder / "checkpoint", known_student(), trained())
    (folder / "latent.toml").write_text(RECIPE.format(folder=folder))
    said = interlock("build", folder / "latent.toml", environ={"INTERLOCK_STORE": str(folder / "store")})
    assert said.code == 0, said.err
    return folder


@pytest.fixture(scope="module")
def loaded(toy: Path) -> dict[str, Loaded]:
    names: tuple[BackendName, ...] = ("eager", "torchscript", "reference")
    return {name: load(toy / "deployed", name) for name in names}


@pytest.fixture(scope="module")
def asked(toy: Path) -> Path:
    """A dataset of 40 rows: four of its answers are not the student's."""
    folder = toy / "dataset"
    folder.mkdir()
    rows = [{"id": f"row-{n:02}", "prompt": "abcd"[n % 4], "steps": list("bcde"[n % 4 :]), "answer": " y" if n >= 36 else " z"} for n in range(40)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    contract = dataset.DatasetContract(
        created_by=maker("data"), inputs=(), files=io.entries(folder), toy=True, task="letters",
        generator=dataset.Generator(name="letters", seed=0, parameters={}), origin=None,
        splits={"test": dataset.Split(files=("test.jsonl",), rows=40)}, tokenizer=None, licence="CC0-1.0",
    ).sealed()  # fmt: skip
    (folder / dataset.FILE).write_bytes(io.pretty(contract))
    return folder


def part(toy: Path, name: str, kind: type[C]) -> C:
    """A contract in the deployed directory."""
    return io.read_contract(toy / "deployed" / name, kind)


def test_every_contract_has_the_evidence_of_latent_steps(toy: Path) -> None:
    exported, packaged = part(toy, export.FILE, export.ExportContract), part(toy, package.FILE, package.PackageContract)
    (result,) = exported.shape_validation.results.values()
    assert result.latent_steps == MAX_SLOTS and result.latent_psnr_db is not None and result.latent_psnr_db >= 70
    assert exported.training == trained()
    assert set(packaged.facts.functions) == {"prefill_32", "decode", package.LATENT}
    measured = [item for item in packaged.gate.evidence if item.function == package.LATENT]
    assert {item.case for item in measured} == {"", "own state fed back"} and {item.positions for item in measured} == {MAX_SLOTS}
    assert part(toy, deployment.FILE, deployment.DeploymentContract).capabilities.latent_reasoning
    config = json.loads((toy / "deployed" / deployment.RUNTIME_CONFIG).read_text())
    assert (config["latent_mode_enabled"], config["curriculum_slots"], config["max_latent_length"]) == (True, 1, MAX_SLOTS)
    assert config["halt_probability_threshold"] == THRESHOLD
    verify(toy / "deployed", SilentVoice())


def test_the_package_reasons_in_spans_and_says_so(toy: Path) -> None:
    said = interlock("infer", toy / "deployed", "--prompt", "a", "--backend", "reference", "--track-efficiency", "--json")
    assert said.code == 0, said.err
    answer = json.loads(said.out)
    assert answer["text"] == " z" and answer["latent"]["slots"] == 4 and answer["latent"]["errors"] == []
    (span,) = answer["latent"]["spans"]
    assert span["ended"] == "halt" and [p >= THRESHOLD for p in span["halt_probabilities"]] == [False, False, False, True]
    # <bot> is put after the prompt, so it is prefilled with it; four slots, <eot>, and three tokens
    assert answer["efficiency"]["forward_passes"] == 8 and answer["efficiency"]["generated_tokens"] == 3


def test_every_backend_reasons_the_same_alone_and_in_any_batch(loaded: dict[str, Loaded]) -> None:
    """Spans that the head ends, of a fixed length, begun by the model or not at all, sampled, several at a time."""
    tokenizer, training = loaded["eager"].tokenizer, loaded["eager"].training
    config = loaded["eager"].config
    assert config
    spans = latent_params(config, loaded["eager"].info, training, "here")
    plain = GenerationParams(eos_ids=loaded["eager"].info.eos_ids, max_new_tokens=30, latent=spans)
    hot = SamplingParams(1.5, seed=1)
    asked = {
        "the head ends it": (tokenizer.encode_prompt("a"), plain),
        "fixed": (tokenizer.encode_prompt("ab"), replace(plain, latent=replace(spans, fixed_slots=2, halt_threshold=None))),
        "none": (tokenizer.encode_prompt("c"), replace(plain, latent=None)),
        "when it wants": (tokenizer.encode_prompt("f"), replace(plain, sampling=hot, latent=replace(spans, forced=0.0, max_spans=3))),
        "sampled": (tokenizer.encode_prompt("d"), replace(plain, sampling=hot)),
        "cut off": (tokenizer.encode_prompt("e"), replace(plain, max_new_tokens=3)),
    }
    said = {name: alike.alone(one.backend, tokenizer, asked) for name, one in loaded.items()}
    assert said["eager"] == said["torchscript"] == said["reference"]
    assert said["eager"]["the head ends it"][0] == ANSWER and said["eager"]["the head ends it"][4] == [(2, 4, "halt")]
    for name, one in loaded.items():
        for running in (2, 6):
            assert alike.together(one.backend, tokenizer, asked, running) == said["eager"], (name, running)


def test_a_person_sees_the_slots(toy: Path) -> None:
    said = interlock("infer", toy / "deployed", "--prompt", "a", "--latent", "--latent-slots", 2)
    assert said.code == 0 and said.out == " z\n" and "latent spans: 2 slots, as asked" in said.err


def test_the_guides_second_quick_start(toy: Path, tmp_path: Path) -> None:
    said = guide.quick_start(toy, tmp_path)
    assert said.code == 0, said.err
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["text"] == ANSWER and result["efficiency"]["latent_slots"] == 4 and result["times"]["first_token_ms"] > 0
    # nobody judges, so the head that ended the span ends the refinement
    assert said.out == f"{ANSWER}\n" * 2 and "loop 1: no judge\nthe halt head says that it is complete\n" in said.err
    assert said.err.count("latent spans: 4 slots, the halt head ended it") == 2


def test_the_guides_orchestrator_example(toy: Path, tmp_path: Path, loaded: dict[str, Loaded]) -> None:
    deployed = toy / "deployed"
    scope = guide.orchestrator(deployed, deployed / deployment.RUNTIME_CONFIG, tmp_path, loaded["eager"].tokenizer)
    assert scope["output"] == scope["result"]["output"] == ANSWER and json.loads(json.dumps(scope["result"])) == scope["result"]
    assert (scope["result"]["total_loops"], scope["result"]["halt_reason"]) == (1, "judge_score_threshold")
    assert scope["result"]["latent_mode_used"] and scope["result"]["halt_head_used"] and scope["result"]["curriculum_applied"]


def test_the_guides_variables_change_what_comes(toy: Path) -> None:
    """By a shell, which hands them on; the tier is one that allows no span."""
    words = f"{guide.VARIABLES.replace('tier_2', 'tier_1')}\n{sys.executable} -m pipeline.cli config show {toy / 'deployed'} --json"
    said = shell.run(["sh", "-euc", words])
    assert said.code == 0, said.err
    fields = json.loads(said.out)["fields"]
    told = {name: (one["asked"], one["source"]) for name, one in fields.items() if one["source"].startswith("environment ")}
    assert told == {
        "latent_mode_enabled": (True, "environment LATENT_MODE"), "halt_head_enabled": (True, "environment HALT_HEAD"),
        "caws_tier": ("tier_1", "environment CAWS_TIER"), "max_refinement_loops": (5, "environment MAX_REFINEMENT_LOOPS"),
        "judge_score_threshold": (0.8, "environment JUDGE_THRESHOLD"), "halt_probability_threshold": (0.7, "environment HALT_THRESHOLD"),
    }  # fmt: skip
    assert (fields["max_refinement_loops"]["value"], fields["max_latent_spans"]["value"]) == (1, 0)
    assert fields["max_refinement_loops"]["cut"] == "tier_1 allows 1"
    assert fields["max_latent_length"]["source"] == f"file {toy / 'deployed' / deployment.RUNTIME_CONFIG}"


@pytest.mark.parametrize(("tier", "spans"), [("tier_1", [0]), ("tier_2", [1, 0]), ("tier_3", [1, 1, 1])])
def test_tiers_differ_as_the_table_says_on_the_package_itself(toy: Path, tier: str, spans: list[int]) -> None:
    model = runtime.orchestration.load(toy / "deployed", backend="reference", caws_tier=tier)
    result = model.generate_with_refinement("a", judge_fn=lambda _output: 0.3)
    assert [one["latent_spans_used"] for one in result["refinement_history"]] == spans
    assert (result["total_loops"], result["halt_reason"], result["halt_head_used"]) == (len(spans), "max_loops_reached", tier != "tier_1")
    assert result["output"] == ("bcde z" if tier == "tier_1" else ANSWER)


def test_a_configuration_beyond_the_training_is_refused_at_load_and_by_the_doctor(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy / "deployed", tmp_path / "deployed")
    file = tmp_path / "deployed" / deployment.RUNTIME_CONFIG
    config = json.loads(file.read_text())
    place = Place(ROOT, Store(tmp_path / "store"), "uv", tmp_path / "deployed")
    assert [found.level for found in looked(place, "latent-mode")] == ["info", "info"]
    file.write_text(json.dumps(config | {"max_latent_length": 99}))
    place = Place(ROOT, Store(tmp_path / "store"), "uv", tmp_path / "deployed")
    told = next(found for found in looked(place, "latent-mode") if found.level == "error")
    assert "max_latent_length is 99" in told.found and str(MAX_SLOTS) in told.remedy
    manifest = tmp_path / "deployed" / deployment.FILE
    document = json.loads(manifest.read_text())
    document["files"] = [entry.model_dump() for entry in io.entries(tmp_path / "deployed")]
    manifest.write_text(json.dumps(resealed(document)))
    with pytest.raises(ContractError) as refused:
        load(tmp_path / "deployed")
    assert [one.where for one in refused.value.violations] == ["/max_latent_length"]


def test_what_an_artifact_was_made_from_decides_whether_it_runs_slots(toy: Path) -> None:
    exported, packaged = part(toy, export.FILE, export.ExportContract), part(toy, package.FILE, package.PackageContract)
    checkpoint = io.read_any(toy / "checkpoint")
    file = toy / "contract"
    assert not [*inheritance_violations(file, exported, checkpoint), *inheritance_violations(file, packaged, exported)]
    untrained = exported.model_copy(update={"training": None})
    assert [one.where for one in inheritance_violations(file, untrained, checkpoint)] == ["/training"]
    without = packaged.facts.model_copy(update={"functions": {name: packaged.facts.functions[name] for name in ("prefill_32", "decode")}})
    wrong = inheritance_violations(file, packaged.model_copy(update={"facts": without}), exported)
    assert [one.where for one in wrong] == ["/facts/functions"]
    with pytest.raises(ValueError, match="exactly where training"):
        export.ExportContract.model_validate(exported.model_dump() | {"training": None})


def test_an_evaluation_is_published_with_every_answer_if_its_gates_hold(toy: Path, asked: Path) -> None:
    gate = ("--gate", "latent_accuracy=0.7")
    said = interlock("eval", toy / "deployed", "latent", "--dataset", asked, "--out", toy / "evaluation", "--toy", *gate)
    assert said.code == 0, said.err
    assert "latent_accuracy missed: row-36, row-37, row-38, row-39" in said.out and "report.html" in said.out
    made = verify(toy / "evaluation", SilentVoice()).contract
    assert isinstance(made, evaluation.EvaluationContract)
    assert (made.verdict, made.items, made.backend, made.toy) == ("pass", 40, "reference", True)
    rows = results(toy / "evaluation")
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows) and sum(row["scores"]["latent_accuracy"] for row in rows) == 36
    told = json.loads((toy / "evaluation" / "summary.json").read_text())
    assert told["means"]["slots"] == 4 and told["by"]["steps"]["4"]["latent_passes"] == 8 and told["by"]["steps"]["4"]["text_passes"] == 7


def results(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / evaluation.RESULTS).read_text().splitlines()]


def test_a_gate_that_fails_names_the_items_and_keeps_the_answers(toy: Path, asked: Path, tmp_path: Path) -> None:
    words = ("--dataset", asked, "--toy", "--backend", "eager", "--gate", "text_accuracy=0.95")
    said = interlock("eval", toy / "deployed", "latent", "--out", tmp_path / "evaluation", *words)
    said.refused(6, "text_accuracy: 0.9 of 40", "missed row-36, row-37, row-38, row-39")
    assert not (tmp_path / "evaluation").exists()
    kept = tmp_path / "rejected" / "evaluation"
    assert len(results(kept)) == 40 and "row-36" in (kept / "junit.xml").read_text() and (kept / "report.html").exists()


def test_a_shard_taken_over_ends_in_the_same_bytes_and_equal_runs_compare_as_such(toy: Path, asked: Path, tmp_path: Path) -> None:
    """By the verbs, from another project that has no answer yet; then by the guide's entry, which finds every answer there."""

    def run(*words: object, home: str = "home") -> dict[str, Any]:
        said = interlock(*words, "--json", cwd=tmp_path, environ={"INTERLOCK_HOME": str(tmp_path / home)})
        assert said.code == 0, said.err
        document: dict[str, Any] = json.loads(said.out)
        return document

    words = ("eval", toy / "deployed", "latent", "--dataset", asked, "--backend", "eager", "--toy")
    part = run(*words, "--shard", "1/2", "--out", "shards", home="elsewhere")
    assert 0 < part["asked"] <= 4 and 4 <= part["items"] < 40
    run(*words, "--answers", part["file"], "--out", "merged")
    run(*words, "--out", "again")
    for name in ("results.jsonl", "summary.json", "report.html", "junit.xml", "comment.md"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    run("baseline", "save", "merged", "--to", "kept")
    same = run("baseline", "compare", toy / "evaluation", "kept", "--html", "compared.html", "--junit", "compared.xml")
    assert same["worse"] == [] and {one["score"] for one in same["scores"]} >= {"latent_accuracy", "text_accuracy"}
    assert "Against" in (tmp_path / "compared.html").read_text() and "testcase" in (tmp_path / "compared.xml").read_text()
    flags = ("--runner", "orchestrator", "--model", toy / "deployed", "--in", asked, "--out", "r.jsonl", "--report", "r.json", "--toy")
    environ = {"INTERLOCK_HOME": str(tmp_path / "home"), "EVAL_LATENT": "1"}
    guide = shell.run([sys.executable, "-m", "eval.cli", *map(str, flags)], cwd=tmp_path, environ=environ)
    assert guide.code == 0 and "40 of 40 items were answered before" in guide.err, guide.err
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["gates_ok"] is True and (tmp_path / "r.jsonl").read_bytes() == (tmp_path / "again" / "results.jsonl").read_bytes()
    two = interlock(*words, "--against-backend", "torchscript", "--out", "two", cwd=tmp_path, environ={"INTERLOCK_HOME": str(tmp_path / "home")})
    two.refused(2, "asks one model")
    environ = {"INTERLOCK_HOME": str(tmp_path / "home"), "EVAL_LATENT": "1", "EVAL_CODE_MODE": "1"}
    refused = shell.run([sys.executable, "-m", "eval.cli", *map(str, flags)], cwd=tmp_path, environ=environ)
    refused.refused(2, "asks without tools")


def test_a_cluster_answers_with_the_bytes_of_one_process(toy: Path, asked: Path, tmp_path: Path) -> None:
    """Paths are given as they look from here; the processes of the nodes start elsewhere, and read and check everything again."""
    here = os.path.relpath(toy / "deployed", tmp_path)
    words = ("eval", here, "latent", "--dataset", asked, "--backend", "eager", "--toy")
    with clusters.nodes(2) as cluster:
        homes = ({"INTERLOCK_HOME": str(tmp_path / name)} for name in ("a", "b"))
        for more in (("--ray", cluster.address, "--out", "many"), ("--out", "one")):
            said = interlock(*words, *more, cwd=tmp_path, environ=next(homes))
            assert said.code == 0 and "were answered before" not in said.err, said.err
    for name in ("results.jsonl", "summary.json", "report.html"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    interlock(*words, "--ray", "auto", "--jobs", "2", cwd=tmp_path).refused(2, "--jobs says how many processes answer here")


NUMBERS = ("text", "passes", "slots", "spans", "prompt_tokens")
SPOKEN = """
description = "what is said in one answer"
asks = "text"
scorers = ["answers", "context", "speech"]
"""


def test_every_runner_gives_rows_of_one_form_and_a_served_directory_those_of_its_own(toy: Path, asked: Path, tmp_path: Path) -> None:
    """Two runners answer as the directory's configuration says, in spans: one opens it, the other asks a server of it. Three answer in plain text."""
    (tmp_path / "said.toml").write_text(SPOKEN)
    shared = ("--dataset", asked, "--toy", "--no-gates")

    def evaluated(model: object, runner: str, *more: object) -> list[dict[str, Any]]:
        said = interlock("eval", model, "said.toml", "--runner", runner, "--out", runner, *shared, *more, cwd=tmp_path)
        assert said.code == 0, said.err
        made = io.read_artifact(tmp_path / runner, evaluation.EvaluationContract)
        assert isinstance(made, evaluation.EvaluationContract) and (made.runner, made.verdict) == (runner, "inconclusive")
        return results(tmp_path / runner)

    plain, packaged = evaluated(toy / "deployed", "deployment"), evaluated(toy / "deployed", "coreml")
    assert plain == packaged and not any("slots" in row["answers"]["text"] for row in plain)
    ours = evaluated(toy / "deployed", "orchestrator")
    assert sum(row["answers"]["text"]["slots"] for row in ours) == 160
    with served(toy / "deployed") as running:
        theirs = evaluated(f"{running.url}/v1", "openai_http", "--model-name", "deployed")
        told = ("--runner", "openai_http", "--model", "deployed", "--suite", "said.toml", "--toy")
        flags = (*told, "--in", asked, "--out", "r.jsonl", "--report", "r.json")
        environ = {"OPENAI_BASE_URL": f"{running.url}/v1"}
        guide = shell.run([sys.executable, "-m", "eval.cli", *map(str, flags)], cwd=tmp_path, environ=environ)
    assert guide.code == 0 and "40 of 40 items were answered before" in guide.err, guide.err
    assert [row["id"] for row in theirs] == [row["id"] for row in ours]
    for one, other in zip(ours, theirs, strict=True):
        a, b = one["answers"]["text"], other["answers"]["text"]
        assert {name: a[name] for name in NUMBERS} == {name: b[name] for name in NUMBERS}
        assert a["numbers"]["halt_probability"] == pytest.approx(b["numbers"]["halt_probability"], abs=1e-6)
        assert b["numbers"]["halt_probability"][0] > THRESHOLD and b["fingerprint"].startswith("fp_")
        assert {name: score for name, score in other["scores"].items() if name != "answered"} == one["scores"]
    wrong = interlock("eval", toy / "deployed", "said.toml", "--runner", "openai_http", *shared, cwd=tmp_path)
    wrong.refused(2, "none is named")
    interlock("eval", toy / "deployed", "said.toml", "--retries", "2", *shared, cwd=tmp_path).refused(2, "runner deployment has no --retries")
