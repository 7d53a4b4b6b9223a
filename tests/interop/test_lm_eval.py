"""The real lm_eval (EleutherAI's harness) asks `interlock serve` local tasks: what it measures is what the student's own forward pass says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import byte_tokenizer
from fakes.served import served, write_student

from interlock.contracts import checkpoint, io
from runtime.engine.chat import encode_chat
from runtime.engine.generate import generate
from runtime.engine.turn import GenerationParams
from runtime.load import Loaded, load
from runtime.student.checkpoint import random_student

pytestmark = pytest.mark.train
HARNESSES = Path(os.environ["INTERLOCK_HARNESSES"])
ROWS = [{"question": question, "choices": [" yes", " no, never", " 👩‍👩‍👧"], "label": label, "answer": "x"}
        for question, label in (("Is it cold?", 0), ("hello world", 1), ("And the quick brown fox", 2), ("Why", 1))]  # fmt: skip
CHOICE = """
task: letters_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: label
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
WRITTEN = """
task: letters_written
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 12, temperature: 0.0, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`student`; `tokenizer`, as transformers writes it; `tasks`."""
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("harness")
    write_student(folder / "student")
    (folder / "tokenizer.json").write_bytes(byte_tokenizer.tokenizer_json())
    PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|im_end|>").save_pretrained(folder / "tokenizer")
    (folder / "tasks").mkdir()
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, task in (("choice", CHOICE), ("written", WRITTEN)):
        (folder / "tasks" / f"{name}.yaml").write_text(task.format(rows=rows))
    return folder


@pytest.fixture(scope="module")
def url(place: Path) -> Iterator[str]:
    with served(place / "student") as running:
        yield f"{running.url}/v1"


@pytest.fixture(scope="module")
def loaded(place: Path) -> Loaded:
    return load(place / "student")


def harness(place: Path, model: str, address: str, task: str, *more: str, tokenizer: bool = True) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Its results for a task, and its log of samples."""
    args = f"model=student,base_url={address},num_concurrent=1,max_retries=1"
    args += f",tokenizer_backend=huggingface,tokenizer={place / 'tokenizer'}" if tokenizer else ""
    out = place / f"out-{model}-{task}"
    command = [HARNESSES / "python", "-m", "lm_eval", "--model", model, "--model_args", args, "--tasks", task, "--include_path", str(place / "tasks"),
               "--output_path", str(out), "--log_samples", *more]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(place / "home")}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **offline})
    assert ended.returncode == 0, ended.stderr[-4000:]
    (results,), (samples,) = list(out.rglob("results_*.json")), list(out.rglob("samples_*.jsonl"))
    listed = sorted((json.loads(line) for line in samples.read_text().splitlines()), key=lambda one: int(one["doc_id"]))
    return json.loads(results.read_text())["results"][task], listed


def test_log_likelihoods_are_those_of_the_students_forward_pass(place: Path, url: str, loaded: Loaded) -> None:
    result, samples = harness(place, "local-completions", f"{url}/completions", "letters_choice")
    contract = io.read_contract(place / "student" / checkpoint.FILE, checkpoint.CheckpointContract)
    student = random_student(contract.arch, contract.model_arch, seed=5).requires_grad_(False)
    right = 0
    for row, sample in zip(ROWS, samples, strict=True):
        found = []
        for choice, told in zip(row["choices"], sample["filtered_resps"], strict=True):
            before, after = loaded.tokenizer.encode(str(row["question"])), loaded.tokenizer.encode(str(choice))
            scores = torch.log_softmax(student(torch.tensor([before + after])).logits[0].double(), -1)
            expected = sum(scores[len(before) - 1 + k, token].item() for k, token in enumerate(after))
            assert float(told[0]) == pytest.approx(expected, abs=1e-3)
            found.append(expected)
        right += max(range(len(found)), key=found.__getitem__) == row["label"]
    assert result["acc,none"] == pytest.approx(right / len(ROWS))


def test_texts_are_those_of_the_engine(place: Path, url: str, loaded: Loaded) -> None:
    params = GenerationParams(max_new_tokens=12, eos_ids=loaded.info.eos_ids, stop=("\n\n",))

    def said(ids: list[int]) -> str:
        return generate(loaded.backend, loaded.tokenizer, ids, params).text

    _, samples = harness(place, "local-completions", f"{url}/completions", "letters_written")
    assert [one["resps"][0][0] for one in samples] == [said(loaded.tokenizer.encode_prompt(str(row["question"]))) for row in ROWS]
    _, samples = harness(place, "local-chat-completions", f"{url}/chat/completions", "letters_written", "--apply_chat_template", tokenizer=False)
    chats = [encode_chat(loaded.tokenizer, [{"role": "user", "content": str(row["question"])}]) for row in ROWS]
    assert [one["resps"][0][0] for one in samples] == [said(ids) for ids in chats]
