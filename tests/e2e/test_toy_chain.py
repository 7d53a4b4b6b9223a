"""A toy with a halt head through the whole chain: the guide's checkpoint in, a deployed directory that generates out, in real processes."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from fakes import alike, guide, served
from fakes.artifacts import resealed
from fakes.chromium import browser
from fakes.shell import interlock
from fakes.toys import write_latest, write_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.command import Session, parser
from interlock.contracts import io
from interlock.errors import ContractError, UsageError
from interlock.voice import SilentVoice
from pipeline.verify import verify
from runtime import infer
from runtime.load import BackendName, Loaded, load
from runtime.numerics import psnr_db

pytestmark = pytest.mark.e2e
QUESTION = "Name three colours."


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with latest.pt, tokenizer/, and everything that `interlock deploy` makes of them."""
    folder = tmp_path_factory.mktemp("toy")
    write_latest(folder / "latest.pt")
    write_tokenizer(folder / "tokenizer")
    said = deploy(folder)
    assert said.code == 0, said.err
    return folder


@pytest.fixture(scope="module")
def loaded(toy: Path) -> dict[str, Loaded]:
    names: tuple[BackendName, ...] = ("eager", "torchscript", "reference")
    return {name: load(toy / "deployed", name) for name in names}


@pytest.fixture(scope="module")
def asked(loaded: dict[str, Loaded]) -> alike.Requests:
    return alike.requests(loaded["eager"].tokenizer, QUESTION, 16, 0.5)


def deploy(folder: Path, *more: object):  # type: ignore[no-untyped-def]  # Said
    return interlock(
        "deploy", "--checkpoint", folder / "latest.pt", "--tokenizer", folder / "tokenizer", "--out-dir", folder / "deployed",
        "--export-pytorch", "--export-coreml", "--halt-head", "--toy", "--json", *more,
    )  # fmt: skip


Infer = Callable[..., str]


@pytest.fixture
def inferred(toy: Path, capsys: pytest.CaptureFixture[str]) -> Infer:
    """What `infer` says on stdout to more words, in this process."""

    def run(*words: object) -> str:
        options = parser("interlock infer", "", "")
        infer.add_options(options)
        assert infer.run(options.parse_args([str(toy / "deployed"), *map(str, words)]), Session("infer", SilentVoice(), (), launch=False)) == 0
        return capsys.readouterr().out

    return run


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


def test_every_backend_says_the_same_to_every_kind_of_request(toy: Path, loaded: dict[str, Loaded], asked: alike.Requests) -> None:
    """The eager student, the exported files and the package itself; and from the command line."""
    tokenizer = loaded["eager"].tokenizer
    said = {name: alike.alone(one.backend, tokenizer, asked) for name, one in loaded.items()}
    assert said["eager"] == said["torchscript"] == said["reference"]
    assert {name: one[2] for name, one in said["eager"].items() if one[2] != "length"} == {
        "a halt head": "halt", "a schema": "complete", "a call": "complete"
    }  # fmt: skip
    words = ("--prompt", QUESTION, "--backend", "reference", "--max-new-tokens", 16, "--json")
    shown = interlock("infer", toy / "deployed", *words)
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["tokens"] == [*said["eager"]["greedy"][1]]


@settings(max_examples=9, deadline=None)
@given(data=st.data(), name=st.sampled_from(["eager", "torchscript", "reference"]), running=st.integers(1, 8))
def test_in_any_batch_they_say_what_they_say_alone(loaded: dict[str, Loaded], asked: alike.Requests, data: Any, name: str, running: int) -> None:
    """Some of them, in any order, so many at a time."""
    chosen = data.draw(st.lists(st.sampled_from(sorted(asked)), min_size=2, unique=True))
    some, tokenizer = {one: asked[one] for one in chosen}, loaded["eager"].tokenizer
    assert alike.together(loaded[name].backend, tokenizer, some, running) == alike.alone(loaded["eager"].backend, tokenizer, some)


@settings(max_examples=9, deadline=None)
@given(
    name=st.sampled_from(["eager", "torchscript", "reference"]), counts=st.lists(st.integers(1, 70), min_size=1, max_size=4), keep=st.integers(0, 20)
)
def test_a_cache_says_what_recomputing_says(loaded: dict[str, Loaded], name: str, counts: list[int], keep: int) -> None:
    """However a text was divided, and whatever was taken back before; 50 dB is the gate's bound for a package."""
    backend = loaded[name].backend
    ids = [(7 * place + 3) % 256 for place in range(keep + sum(counts))]
    cache, fresh = backend.new_cache(), backend.new_cache()
    backend.prefill([*ids[:keep], *range(9, 40)], cache)
    cache.rewind(keep)
    for count in counts:
        step = backend.prefill(ids[cache.position : cache.position + count], cache)
    whole = backend.prefill(ids, fresh)
    assert psnr_db(torch.from_numpy(whole.logits), torch.from_numpy(step.logits)) >= 50
    assert psnr_db(torch.from_numpy(whole.hidden), torch.from_numpy(step.hidden)) >= 50


def test_every_backend_serves_the_same(loaded: dict[str, Loaded]) -> None:
    """Streamed and whole, all at once; sampled, held to a form, calling."""
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": alike.ARGUMENTS}}
    hot, messages = {"temperature": 1, "seed": 3}, [{"role": "user", "content": QUESTION}]
    bodies: list[dict[str, Any]] = [
        {"temperature": 0, "max_tokens": 12}, hot | {"top_p": 0.9, "n": 2, "max_tokens": 12, "logprobs": True}, hot | {"response_format": form},
        hot | {"stop": ["R"], "max_tokens": 12}, hot | {"tools": alike.TOOLS, "tool_choice": "required", "max_tokens": 400},
    ]  # fmt: skip
    asked = [{"messages": messages, "stream": stream, **body} for stream in (False, True) for body in bodies]
    said = {name: served.answered(one, asked, running=3) for name, one in loaded.items()}
    assert said["eager"] == said["torchscript"] == said["reference"]
    whole, streamed = said["eager"][: len(bodies)], said["eager"][len(bodies) :]
    assert whole == streamed and len(whole[1]) == 2 and whole[0][0].text != whole[1][0].text
    for document in [whole[2][0].text, *(arguments for _, arguments in whole[4][0].calls)]:
        jsonschema.validate(json.loads(document), alike.ARGUMENTS)
    assert [answer.finish for answers in whole for answer in answers] == ["length", "length", "length", "stop", "stop", "tool_calls"]


def test_calls_from_the_command_line_are_valid_whatever_the_choice(toy: Path, tmp_path: Path, inferred: Infer) -> None:
    """Of a model that says anything: from a process, then for each choice, and as a person sees it."""
    (tmp_path / "tools.json").write_text(json.dumps(alike.TOOLS))
    hot = ("--prompt", "?", "--tools", tmp_path / "tools.json", "--temperature", 1, "--max-new-tokens", 600)
    required = (*hot, "--tool-choice", "required", "--seed", 1)
    said = interlock("infer", toy / "deployed", *required, "--json")
    assert said.code == 0, said.err
    whole = json.loads(said.out)
    for backend in ("torchscript", "reference"):
        assert json.loads(inferred(*required, "--json", "--backend", backend))["tokens"] == whole["tokens"]
    assert inferred(*required) == whole["text"] + "\n"
    named = [json.loads(inferred(*hot, "--tool-choice", "there", "--seed", seed, "--json")) for seed in range(3)]
    assert {call["name"] for made in named for call in made["tool_calls"]} == {"there"} and max(len(made["tool_calls"]) for made in named) > 1
    for made in (whole, *named):
        assert made["tool_calls"] and made["reason"] in ("complete", "eos")
        for call in made["tool_calls"]:
            jsonschema.validate(call["arguments"], alike.ARGUMENTS)
    for choice in ("none", "auto"):  # the words of this model are noise, and none of them begins a call
        assert json.loads(inferred(*hot, "--json", "--max-new-tokens", 20, "--tool-choice", choice))["tool_calls"] == []


def test_the_guides_core_ml_example(loaded: dict[str, Loaded]) -> None:
    """Greedily, on each backend; on the package itself by what executes it here."""
    scopes = {name: guide.core_ml(one.backend, one.tokenizer, alike.TOOLS) for name, one in loaded.items()}
    for scope in scopes.values():
        assert json.loads(json.dumps(scope["result"])) == scope["result"] and scope["result"]["name"] in ("here", "there")
        jsonschema.validate(scope["result"]["arguments"], alike.ARGUMENTS)
        assert scope["halt_logits"] == pytest.approx(scopes["eager"]["halt_logits"], abs=0.01)
        assert scope["halt_probability"] == pytest.approx(1 / (1 + math.exp(scope["halt_logits"][0] - scope["halt_logits"][1])))


def test_batch_keeps_order_and_ids(toy: Path, tmp_path: Path, inferred: Infer) -> None:
    lines = [{"prompt": "one", "id": "b"}, {"messages": [{"role": "user", "content": "two"}], "id": "a"}, {"prompt": "three"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = interlock("infer", toy / "deployed", "--in", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl", "--max-new-tokens", 3)
    assert said.code == 0, said.err
    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [result["id"] for result in results] == ["b", "a", "3"]
    assert json.loads(inferred("--prompt", "two", "--max-new-tokens", 3, "--json"))["tokens"] == results[1]["tokens"]


def test_an_answer_has_its_form_and_what_cannot_be_enforced_is_named(tmp_path: Path, inferred: Infer) -> None:
    schema = {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}, "days": {"type": "boolean"}}, "required": ["unit", "days"]}
    (tmp_path / "schema.json").write_text(json.dumps({**schema, "additionalProperties": False}))
    answer = json.loads(inferred("--prompt", "warm?", "--json-schema", tmp_path / "schema.json", "--json"))
    assert answer["reason"] == "complete" and answer["text"] in [json.dumps({"unit": unit, "days": days}) for unit in "cf" for days in (True, False)]
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "requird": ["a"]}))
    with pytest.raises(UsageError, match="`/requird`"):
        inferred("--prompt", "x", "--json-schema", tmp_path / "schema.json")


def test_one_flipped_bit_in_any_file_is_named(toy: Path, tmp_path: Path) -> None:
    """By the verb, and for every other file by what it calls."""
    damaged = tmp_path / "deployed"
    shutil.copytree(toy / "deployed", damaged)
    for number, name in enumerate(io.walk(damaged)):
        file = damaged / name
        whole = file.read_bytes()
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        if number == 0:
            interlock("verify", damaged).refused(3, str(file))
        else:
            with pytest.raises(ContractError) as refused:
                verify(damaged, SilentVoice())
            assert str(file) in str(refused.value)
        file.write_bytes(whole)
    verify(damaged, SilentVoice())


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
