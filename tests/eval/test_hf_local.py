"""Runner `hf_local`: transformers' own answers from its own directory are those of the student with the same weights; what is missing is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fakes import byte_tokenizer
from fakes.relatives import twin
from fakes.served import write_student

from eval.asking import Foreign, Model
from eval.items import Item
from eval.runners import Runner
from eval.runners.table import opened
from interlock.contracts import checkpoint, io
from interlock.errors import ContractError, EnvironmentRefused, UsageError
from runtime.student.checkpoint import random_student

pytestmark = pytest.mark.train
ITEMS = [
    Item("prompt", "hello world", ""),
    Item("chat", None, "", messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"})),
    Item("other", "the quick brown fox 👩‍👩‍👧", ""),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`student`, and `theirs` as transformers writes the same weights and tokenizer."""
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("hf")
    contract = io.read_contract(write_student(folder / "student", max_position=64) / checkpoint.FILE, checkpoint.CheckpointContract)
    model = twin(random_student(contract.arch, contract.model_arch, seed=5))
    model.generation_config.eos_token_id = list(byte_tokenizer.info_of(byte_tokenizer.tokenizer_json()).eos_ids)
    model.generation_config.repetition_penalty = 1.7  # theirs for sampling: an evaluation is greedy
    model.save_pretrained(folder / "theirs")
    (folder / "tokenizer.json").write_bytes(byte_tokenizer.tokenizer_json())
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|im_end|>")
    tokenizer.chat_template = byte_tokenizer.CHATML
    tokenizer.save_pretrained(folder / "theirs")
    return folder


def both(place: Path, most: int) -> tuple[Runner, Runner]:
    return opened(Model(directory=place / "student", backend="eager"), most), opened(Foreign(directory=place / "theirs"), most)


def test_it_says_what_the_student_says(place: Path) -> None:
    runners = both(place, 24)
    for item in ITEMS:
        ours, theirs = (one.say(item) for one in runners)
        assert ours == theirs, item.id
    messages = ({"role": "user", "content": "again"},)
    assert runners[0].say(ITEMS[0], messages) == runners[1].say(ITEMS[0], messages)


def test_positions_end_an_answer_where_they_end_ours(place: Path) -> None:
    runners = both(place, 200)
    for item in ITEMS:
        ours, theirs = (one.say(item) for one in runners)
        assert ours == theirs and ours.reason in ("eos", "position_limit")
    for one in runners:
        with pytest.raises(UsageError, match=r"item long: the prompt has \d+ tokens"):
            one.say(Item("long", "x" * 65, ""))


def test_without_transformers_it_is_said_what_to_do(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EnvironmentRefused, match="needs the package") as refused:
        opened(Foreign(directory=place / "theirs"), 8)
    assert "tox run -e hf" in refused.value.remedy and refused.value.required.startswith("transformers 5.")


def test_what_is_no_such_directory_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"config\.json"):
        opened(Foreign(directory=tmp_path), 8)
    (tmp_path / "config.json").write_text('{"model_type": "custom", "auto_map": {"AutoModelForCausalLM": "evil.Model"}}')
    (tmp_path / "evil.py").write_text("raise SystemExit(9)")
    with pytest.raises(ContractError, match="without code of its own"):
        opened(Foreign(directory=tmp_path), 8)
