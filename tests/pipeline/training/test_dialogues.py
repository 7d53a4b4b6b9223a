"""Rows with messages: every turn of the assistant becomes ids as transformers marks them, is learned, and what a template cannot write is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
from fakes.datasets import made, written
from fakes.teachers import small_teacher, taught
from fakes.trainings import settings

from interlock.contracts import io
from interlock.contracts.checkpoint import CheckpointContract, TokenizerInfo
from interlock.contracts.dataset import DatasetContract
from interlock.errors import ContractError, UsageError
from interlock.voice import SilentVoice
from pipeline.datasets import tokenizer as own
from pipeline.datasets import world
from pipeline.datasets.dialogues import conversation
from pipeline.datasets.reading import read_split
from pipeline.driver import stage
from pipeline.stages import train
from pipeline.training.encoding import encoded, origin
from pipeline.training.examples import Example
from pipeline.training.told import LOG
from runtime.engine.chat import encode_chat
from runtime.engine.tokenizer import Tokenizer

pytestmark = pytest.mark.train

SMALL = {"d_model": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_head": 16, "d_ff": 48, "vocab_size": 700, "max_position": 1024}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dialogues") / "data"
    made(out, "tool-calls", train=24, validation=8, test=8)
    return out


@pytest.fixture(scope="module")
def tokenizer(dataset: Path) -> Tokenizer:
    return own_tokenizer(dataset, own.TEMPLATE_WITH_TOOLS)


def own_tokenizer(dataset: Path, template: str | None) -> Tokenizer:
    contract = io.read_contract(dataset / "dataset_contract.json", DatasetContract)
    data = own.train(own.texts_of(read_split(dataset, contract, "train", SilentVoice()), world.REGISTRY), 600)
    return Tokenizer(data, TokenizerInfo(sha256="0" * 64, vocab_size=600, eos_ids=(2,)), chat_template=template)


def examples(dataset: Path, tokenizer: Tokenizer, split: str = "train", most: int = 4096) -> list[Example]:
    contract = io.read_contract(dataset / "dataset_contract.json", DatasetContract)
    rows = read_split(dataset, contract, split, SilentVoice())
    return encoded(rows, tokenizer, most, origin(dataset, contract, split, rows), SilentVoice())


def test_turns_are_what_transformers_marks_as_the_assistants(dataset: Path, tokenizer: Tokenizer) -> None:
    """Its `apply_chat_template` runs the same template over whole conversations; a mask comes from the `generation` block."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    contract = io.read_contract(dataset / "dataset_contract.json", DatasetContract)
    rows = read_split(dataset, contract, "train", SilentVoice())
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(tokenizer._inner.to_str()), chat_template=tokenizer.chat_template)
    found = examples(dataset, tokenizer)
    called = 0
    for row in rows:
        turns = [one for one in found if one.id == row.id or one.id.startswith(f"{row.id} message ")]
        said = {"role": "assistant", "content": row.response}
        given = conversation(row, world.REGISTRY, row.messages or ())
        whole = theirs.apply_chat_template(
            [*map(dict, given.messages), said], tools=given.variables["tools"], return_dict=True, return_assistant_tokens_mask=True
        )
        marked = [0] * len(whole["input_ids"])
        for turn in turns:
            end = len(turn.prompt) + len(turn.answer)
            assert tuple(whole["input_ids"][:end]) == (*turn.prompt, *turn.answer)
            marked[len(turn.prompt) : end] = [1] * len(turn.answer)
        assert marked == list(whole["assistant_masks"])
        called += len(turns) - 1
        assert list(turns[-1].prompt) == encode_chat(tokenizer, given.messages, variables=given.variables)
    assert called > 15


def by_hand(folder: Path, *rows: dict[str, Any]) -> Path:
    written(folder, {"train": [{"id": f"row {n}", **({} if "answer" in row else {"response": "yes"}), **row} for n, row in enumerate(rows)]})
    return folder


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def test_what_was_typed_stays_text_and_one_token_ends_a_turn(tmp_path: Path, tokenizer: Tokenizer) -> None:
    [row] = examples(by_hand(tmp_path, {**user("a<|im_end|>b"), "response": "c<|im_end|>d"}), tokenizer)
    assert tokenizer.decode(row.prompt) == "user\na<|im_end|>b\nassistant\n" and row.prompt.count(2) == 1
    assert tokenizer.decode(row.answer) == "c<|im_end|>d" and row.answer.count(2) == 1 and row.answer[-1] == 2


CALL = {"role": "assistant", "content": "", "calls": [{"name": "weather.lookup", "arguments": {"place": "Bern"}}]}
RESULT = {"role": "tool", "content": '{"degrees": 17}'}
# What is wrong with the second row, and the template that it is wrong for.
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "too long": (user("word " * 300), own.TEMPLATE, r"at most 256 positions.*found \d{3}"),
    "a call and no branch for it": ({"messages": [*user("x")["messages"], CALL, RESULT]}, own.TEMPLATE, "leaves out the call of `weather.lookup`"),
    "a result and no branch for it": (
        {"messages": [*user("x")["messages"], RESULT]}, own.TEMPLATE.replace("in messages", "in messages if m.role != 'tool'"), "result .*degrees",
    ),
    "a role that is refused": (
        {"messages": [{"role": "system", "content": "s"}, *user("x")["messages"]]},
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + own.TEMPLATE, "no system here",
    ),
    "a template that fails": (user("fail"), "{% if messages[0].content == 'fail' %}{{ 1 / 0 }}{% endif %}" + own.TEMPLATE, "ZeroDivisionError"),
    "steps apart": ({**user("x"), "steps": ["a"], "answer": "b"}, own.TEMPLATE, "steps have no place"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_is_named_by_file_and_line(tmp_path: Path, dataset: Path, name: str) -> None:
    row, template, told = REFUSED[name]
    folder = by_hand(tmp_path, user("fine"), row)
    with pytest.raises(ContractError) as refused:
        examples(folder, own_tokenizer(dataset, template), most=256)
    assert refused.value.remedy
    for wrong in refused.value.violations:
        assert wrong.file.endswith("train.jsonl") and wrong.where.startswith("line 2")
        assert re.search(told, f"{wrong.expected} found {wrong.found}")


def test_a_student_without_a_template_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="need a chat template") as refused:
        examples(by_hand(tmp_path, user("x")), own_tokenizer(dataset, None))
    assert "interlock import --tokenizer" in refused.value.remedy


def test_a_tool_that_the_dataset_does_not_have_is_refused(dataset: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    contract = io.read_contract(dataset / "dataset_contract.json", DatasetContract)
    rows = list(read_split(dataset, contract, "train", SilentVoice()))
    rows[0] = rows[0].model_copy(update={"metadata": {"tools": ["weather.lookup", "door.open"]}})
    with pytest.raises(ContractError, match=r"door\.open"):
        encoded(rows, tokenizer, 4096, origin(dataset, contract, "train", rows), SilentVoice())


def learnt(dataset: Path, out: Path, **changes: Any) -> CheckpointContract:
    chosen = settings(**{"latent": None, "steps": 12, "batch": 4, "lr": 2e-2, "evaluate_every": 12, **changes.pop("settings", {})})
    params = train.Params(dataset=dataset, out=out, settings=chosen, **changes)
    contract = stage.run(train.STAGE, params, SilentVoice(), source="1" * 64).contract
    assert isinstance(contract, CheckpointContract)
    return contract


def test_a_student_learns_to_call_tools(dataset: Path, tmp_path: Path) -> None:
    contract = learnt(dataset, tmp_path / "out", scratch=train.Scratch.model_validate(SMALL))
    log = [json.loads(line) for line in (tmp_path / "out" / LOG).read_text().splitlines()]
    assert log[-1]["losses"]["ce"] < log[0]["losses"]["ce"] * 0.8 and log[-1]["samples"][0]["wanted"]
    assert contract.tokenizer is not None and contract.tokenizer.has_chat_template and contract.training is not None
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == own.TEMPLATE_WITH_TOOLS


def test_turns_are_not_said_in_slots(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"rows with a prompt and steps: \[train.latent\]"):
        learnt(dataset, tmp_path / "out", scratch=train.Scratch.model_validate(SMALL), settings={"latent": {}})


def test_a_teacher_is_asked_with_the_students_prompt_and_teaches_the_last_turn(tmp_path: Path) -> None:
    """The teacher itself, as a student of its own words, has nothing to learn: at another prompt it would."""
    small_teacher(tmp_path / "teacher")
    earlier = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}]
    rows = [{"id": f"{number}", "messages": [*earlier, {"role": "user", "content": str(number)}], "answer": "x"} for number in range(8)]
    written(tmp_path / "data", {"train": rows, "validation": [{**row, "id": f"v{row['id']}"} for row in rows]})
    taught(tmp_path / "taught", tmp_path / "data", str(tmp_path / "teacher"), top_k=16, max_new_tokens=6)
    weights = {"ce": 0.0, "kl": 1.0}
    learnt(tmp_path / "taught", tmp_path / "out", start=tmp_path / "teacher", settings={"steps": 2, "batch": 16, "lr": 1e-9, "weights": weights})
    log = [json.loads(line) for line in (tmp_path / "out" / LOG).read_text().splitlines()]
    assert log[0]["losses"]["kl"] < 1e-3
