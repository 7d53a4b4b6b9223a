"""A toy with a halt head through the whole chain: the guide's checkpoint in, a deployed directory that generates out, in real processes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from fakes.artifacts import resealed
from fakes.chromium import browser
from fakes.shell import interlock, module
from fakes.toys import write_latest, write_tokenizer

from interlock.contracts import io

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with latest.pt, tokenizer/, and everything that `interlock deploy` makes of them."""
    folder = tmp_path_factory.mktemp("toy")
    write_latest(folder / "latest.pt")
    write_tokenizer(folder / "tokenizer")
    said = deploy(folder)
    assert said.code == 0, said.err
    return folder


def deploy(folder: Path, *more: object):  # type: ignore[no-untyped-def]  # Said
    return interlock(
        "deploy", "--checkpoint", folder / "latest.pt", "--tokenizer", folder / "tokenizer", "--out-dir", folder / "deployed",
        "--export-pytorch", "--export-coreml", "--halt-head", "--toy", "--json", *more,
    )  # fmt: skip


def test_the_directory_holds_the_guides_five_artifacts_and_verifies(toy: Path) -> None:
    names = {path.name for path in (toy / "deployed").iterdir()}
    assert names >= {"model_prefill_fp16.pt", "model_decode_fp16.pt", "model.mlpackage", "runtime_config.json", "deployment_manifest.json"}
    said = interlock("verify", toy / "deployed", "--json")
    assert said.code == 0, said.err
    proven = json.loads(said.out)
    assert [(one["kind"], one["place"]) for one in proven["reached"]] == [
        ("deployment", "here"), ("export", "part"), ("package", "part"), ("checkpoint", "store")
    ]  # fmt: skip
    assert [ref["kind"] for ref in proven["not_reached"]] == ["source"]
    contract = proven["contract"]
    assert contract["toy"] is True
    assert contract["capabilities"] == {"latent_reasoning": False, "halt_head": True, "code_mode": True}
    assert contract["model_info"]["checkpoint_step"] == 1000


def test_the_package_names_both_outputs_and_every_function(toy: Path) -> None:
    facts = json.loads((toy / "package" / "package_contract.json").read_text())["facts"]
    assert set(facts["functions"]) == {"prefill_64", "prefill_128", "prefill_256", "decode"}
    for function in facts["functions"].values():
        assert [output["name"] for output in function["outputs"]] == ["logits", "halt_logits", "hidden"]
        assert {state["name"] for state in function["states"]} == {"k_cache", "v_cache"}


def test_the_package_was_run_and_compared_with_the_checkpoint_before_it_was_published(toy: Path) -> None:
    contract = json.loads((toy / "package" / "package_contract.json").read_text())
    gate = contract["gate"]
    checkpoint = json.loads((toy / "checkpoint" / "checkpoint_contract.json").read_text())
    assert gate["reference"] == "checkpoint" and gate["reference_digest"] == checkpoint["digest"] and gate["repeatable"]
    assert {(item["function"], item["output"]) for item in gate["evidence"] if item["against"] is None} == {
        (function, output) for function in contract["facts"]["functions"] for output in ("logits", "halt_logits", "hidden")
    }
    assert all(item["psnr_db"] >= gate["thresholds"]["psnr_db"] for item in gate["evidence"])


def test_the_package_inspected_without_coremltools_is_what_its_contract_read_with_it(toy: Path) -> None:
    said = interlock("mil", "inspect", toy / "package", "--json")
    assert said.code == 0, said.err
    facts = json.loads((toy / "package" / "package_contract.json").read_text())["facts"]
    found = json.loads(said.out)
    for name, function in facts["functions"].items():
        assert found["functions"][name]["operations"] == function["operations"]
        assert set(found["functions"][name]["states"]) == {state["name"] for state in function["states"]}
    assert sum(weights["bytes"] for weights in found["weights"]) <= facts["weight_bytes"]


def test_one_function_runs_from_the_command_line(toy: Path, tmp_path: Path) -> None:
    import numpy as np

    np.savez(tmp_path / "in.npz", input_ids=np.array([[5]], np.int32), position_ids=np.array([0], np.int32))
    said = interlock("mil", "run", toy / "package", "--function", "decode", "--inputs", tmp_path / "in.npz", "--out", tmp_path / "out.npz", "--json")
    assert said.code == 0, said.err
    outputs = json.loads(said.out)["outputs"]
    with np.load(tmp_path / "out.npz") as arrays:
        assert set(arrays.files) == set(outputs) == {"logits", "halt_logits", "hidden"}
        assert arrays["logits"].max() == np.float16(outputs["logits"]["max"])
    (tmp_path / "no.npz").write_text("text")
    interlock("mil", "run", toy / "package", "--inputs", tmp_path / "no.npz").refused(3, "no.npz")
    interlock("mil", "run", toy / "package", "--function", "decod").refused(2, "prefill_64")


def test_the_export_contract_answers_the_guides_question(toy: Path) -> None:
    validation = json.loads((toy / "exported" / "model_contract.json").read_text())["shape_validation"]
    assert validation["primary_shape"] == 128 and validation["all_ok"]
    for result in validation["results"].values():
        assert result["psnr_db"] >= 70 and result["decode_psnr_db"] >= 70 and result["halt_flips"] == 0


def test_a_second_run_reuses_everything(toy: Path) -> None:
    before = (toy / "deployed" / "deployment_manifest.json").stat().st_mtime_ns
    said = deploy(toy)
    assert said.code == 0, said.err
    assert [step["state"] for step in json.loads(said.out)["steps"]] == ["kept"] * 4
    assert (toy / "deployed" / "deployment_manifest.json").stat().st_mtime_ns == before


def test_all_backends_generate_the_same_greedy_tokens(toy: Path) -> None:
    """The eager student, the exported files and the package itself, run on this machine."""
    tokens = {}
    for backend in ("eager", "torchscript", "reference"):
        said = interlock("infer", toy / "deployed", "--prompt", "abc", "--backend", backend, "--max-new-tokens", 40, "--json")
        assert said.code == 0, said.err
        tokens[backend] = json.loads(said.out)["tokens"]
    assert tokens["eager"] == tokens["torchscript"] == tokens["reference"] and len(tokens["eager"]) > 5


def test_batch_keeps_order_and_ids(toy: Path, tmp_path: Path) -> None:
    lines = [{"prompt": "one", "id": "b"}, {"messages": [{"role": "user", "content": "two"}], "id": "a"}, {"prompt": "three"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = interlock("infer", toy / "deployed", "--in", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl", "--max-new-tokens", 3)
    assert said.code == 0, said.err
    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [result["id"] for result in results] == ["b", "a", "3"]
    single = interlock("infer", toy / "deployed", "--max-new-tokens", 3, "--json", stdin="two")
    assert json.loads(single.out)["tokens"] == results[1]["tokens"]


def test_sampling_is_seeded(toy: Path) -> None:
    def sampled(seed: int) -> list[int]:
        said = interlock("infer", toy / "deployed", "--prompt", "x", "--temperature", 1, "--seed", seed, "--max-new-tokens", 16, "--json")
        return list(json.loads(said.out)["tokens"])

    assert sampled(1) == sampled(1) != sampled(2)


def test_an_answer_has_its_form_and_what_cannot_be_enforced_is_named(toy: Path, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}, "days": {"type": "boolean"}}, "required": ["unit", "days"]}
    (tmp_path / "schema.json").write_text(json.dumps({**schema, "additionalProperties": False}))
    said = interlock("infer", toy / "deployed", "--prompt", "warm?", "--json-schema", tmp_path / "schema.json", "--json")
    assert said.code == 0, said.err
    answer = json.loads(said.out)
    assert answer["reason"] == "complete" and answer["text"] in [json.dumps({"unit": unit, "days": days}) for unit in "cf" for days in (True, False)]
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "requird": ["a"]}))
    interlock("infer", toy / "deployed", "--prompt", "x", "--json-schema", tmp_path / "schema.json").refused(2, "`/requird`")


def test_the_guides_inference_command(toy: Path, tmp_path: Path) -> None:
    said = module(
        "runtime.inference_production", "--model", toy / "deployed" / "model_prefill_fp16.pt", "--prompt", "Your prompt here",
        "--output", tmp_path / "results.json", "--config", toy / "deployed" / "runtime_config.json", "--track-efficiency", "--max-new-tokens", 4,
    )  # fmt: skip
    assert said.code == 0, said.err
    result = json.loads((tmp_path / "results.json").read_text())
    assert len(result["tokens"]) == 4 and result["reason"] == "length" and result["efficiency"]["generated_tokens"] == 4
    assert result["times"]["first_token_ms"] > 0


def test_one_flipped_bit_in_any_file_is_named(toy: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "deployed"
    shutil.copytree(toy / "deployed", damaged)
    for name in io.walk(damaged):
        file = damaged / name
        whole = file.read_bytes()
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        interlock("verify", damaged).refused(3, str(file))
        file.write_bytes(whole)
    assert interlock("verify", damaged).code == 0


def test_a_changed_program_is_refused_before_it_is_opened(toy: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "deployed"
    shutil.copytree(toy / "deployed", damaged)
    with (damaged / "model_decode_fp16.pt").open("ab") as file:
        file.write(b"\0")
    interlock("infer", damaged, "--prompt", "x", "--backend", "torchscript").refused(3, "model_decode_fp16.pt", "sha256")


def test_a_manifest_edited_and_sealed_again_is_caught_by_what_it_is_derived_from(toy: Path, tmp_path: Path) -> None:
    edited = tmp_path / "deployed"
    shutil.copytree(toy / "deployed", edited)
    file = edited / "deployment_manifest.json"
    document = json.loads(file.read_text())
    document["capabilities"]["latent_reasoning"] = True
    file.write_text(json.dumps(resealed(document)))
    interlock("verify", edited).refused(3, "/capabilities", "derived from the artifacts")


def test_flags_claim_nothing_that_the_artifacts_lack(toy: Path, tmp_path: Path) -> None:
    parts = ("--export", toy / "exported", "--package", toy / "package", "--out-dir", tmp_path / "out")
    interlock("deploy", *parts, "--toy", "--latent-mode").refused(3, "no latent training")
    interlock("deploy", *parts).refused(3, "/toy", "explicit --toy")
    plain = tmp_path / "plain"
    plain.mkdir()
    write_latest(plain / "latest.pt", halt_head=False)
    said = interlock("deploy", "--checkpoint", plain / "latest.pt", "--tokenizer", toy / "tokenizer", "--out-dir", plain / "deployed",
                     "--export-pytorch", "--halt-head", "--toy")  # fmt: skip
    said.refused(3, "no halt head")
    assert not (plain / "deployed").exists() and not (tmp_path / "out").exists()


def test_parts_of_different_builds_do_not_mix(toy: Path, tmp_path: Path) -> None:
    write_latest(tmp_path / "latest.pt", seed=1)
    other = interlock("export", "--checkpoint", tmp_path / "latest.pt", "--tokenizer", toy / "tokenizer", "--out", tmp_path / "exported", "--toy")
    assert other.code == 0, other.err
    interlock("deploy", "--export", tmp_path / "exported", "--package", toy / "package", "--out-dir", tmp_path / "out", "--toy").refused(3, "/inputs")


def test_a_prompt_longer_than_the_model_names_both_numbers(toy: Path) -> None:
    interlock("infer", toy / "deployed", "--raw", "--prompt", "x" * 600).refused(2, "600 tokens", "512 positions")


def test_wrong_kinds_say_what_they_are(toy: Path, tmp_path: Path) -> None:
    interlock("convert", "--in", toy / "checkpoint", "--out", tmp_path / "out", "--toy").refused(3, "`export`", "`checkpoint`")
    interlock("export", "--checkpoint", toy / "package", "--out", tmp_path / "out", "--toy").refused(3, "`checkpoint`", "`package`")
    interlock("infer", toy / "exported", "--prompt", "x").refused(3, "deployed directory or a checkpoint")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reference", ["checkpoint", "deployed"])
def test_the_deployed_package_is_compared_with_what_it_was_made_of(toy: Path, reference: str) -> None:
    """Value by value, on a prompt by the tokenizer that lies there."""
    said = interlock("mil", "compare", toy / "deployed", toy / reference, "--prompt", "a short prompt", "--function", "decode", "--json")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert document["first"] is None and document["calls"][0] == "prefill_64 on 64 tokens"


def test_the_lineage_of_the_deployment_ends_in_the_file_that_was_imported(toy: Path) -> None:
    said = interlock("lineage", toy / "deployed", "--json")
    assert said.code == 0, said.err
    artifacts = json.loads(said.out)["artifacts"]
    assert [item["kind"] for item in artifacts] == ["deployment", "package", "export", "checkpoint", "source"]
    assert artifacts[-1]["digest"] == hashlib.sha256((toy / "latest.pt").read_bytes()).hexdigest()


def test_a_report_of_the_deployment_is_a_page_that_loads_nothing(toy: Path, tmp_path: Path) -> None:
    said = interlock("report", toy / "deployed", "--html", tmp_path / "report.html", "--json")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert document["verdict"]["state"] == "toy" and document["verdict"]["proven"]
    with browser() as page:
        page.open(tmp_path / "report.html", 375)
        assert page.seen.requests == [(tmp_path / "report.html").as_uri()] and page.seen.complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        assert document["artifacts"][0]["digest"] in page.evaluate("document.body.innerText")


def test_a_package_differs_from_its_compressed_one_in_the_weights_that_were_compressed(toy: Path, tmp_path: Path) -> None:
    """The package's own contract says which those are, from the bytes that the compressor wrote."""
    made = interlock("convert", "--in", toy / "package", "--checkpoint", toy / "checkpoint", "--compress", "int8", "--target-kl", "0.0001",
                     "--out", tmp_path / "small", "--toy", "--json")  # fmt: skip
    assert made.code == 0, made.err
    forms = [weight["form"] for weight in json.loads(made.out)["contract"]["compression"]["weights"].values()]
    said = interlock("diff", toy / "package", tmp_path / "small", "--json", "--exit-code")
    found = json.loads(said.out)
    assert said.code == 1 and found["outcome"] == "differs" and found["structure"] == []
    assert {item["operation"] for item in found["counts"]} == {"const", "constexpr_blockwise_shift_scale"}
    assert len(found["tensors"]) == sum(form != "fp16" for form in forms) > 0
    assert all(40 < item["psnr_db"] < 80 for item in found["tensors"])
    assert json.loads(interlock("diff", toy / "package", tmp_path / "small", "--json", "--within", "0.01").out)["outcome"] == "numerically same"
    assert json.loads(interlock("diff", toy / "deployed", toy / "deployed", "--json").out)["outcome"] == "same"
