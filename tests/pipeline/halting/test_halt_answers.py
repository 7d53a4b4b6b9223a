"""A model asked in batches says what it says one prompt at a time, and what it said is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.students import some_ids, tiny_student
from fakes.units import one_by_one

from interlock.contracts.checkpoint import ModelArch
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.halting.answers import collect, prompt_ids
from pipeline.halting.decode import Batched
from pipeline.halting.dialogues import Dialogue, dialogues
from runtime.backends.eager import eager_from
from runtime.engine.chat import encode_chat
from runtime.engine.endings import ends_cleanly
from runtime.engine.generate import generate
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import GenerationParams
from runtime.student.model import Student

TOKENIZER = byte_tokenizer()
GREEDY = SamplingParams(temperature=0)


@pytest.mark.parametrize("shared", [0, 1, 4])
def test_a_batch_is_its_prompts_one_by_one(shared: int) -> None:
    """Tokens, hidden states and logits after every token, by the eager backend; prompts of five lengths, some of which end early."""
    student = tiny_student()
    prompts = [list(range(shared)) + some_ids(student.arch, length, seed=length).tolist() for length in (5, 1, 9, 3, 12)]
    ends, limit = [7, 50, 61, 90], 40
    said: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {row: [] for row in range(len(prompts))}
    for moments in Batched(student, "float32").answers(prompts, ends, limit):
        for one in moments:
            said[one.row].append((one.token, one.hidden.numpy().copy(), one.logits.numpy().copy()))
    backend, lengths = eager_from(student), set()
    for row, prompt in enumerate(prompts):
        cache = backend.new_cache()
        step = one_by_one(backend, prompt, cache)
        for token, hidden, logits in said[row]:
            assert token == int(step.logits.argmax())
            assert np.abs(hidden - step.hidden).max() < 1e-4 and np.abs(logits - step.logits).max() < 1e-4  # fp32, |hidden| near 1, 48 wide
            if token not in ends:
                step = backend.decode(token, cache)
        assert said[row][-1][0] in ends or len(said[row]) == limit + 1
        lengths.add(len(said[row]))
    assert len(lengths) > 1  # rows did leave the batch


def student_of_bytes() -> Student:
    return tiny_student(ModelArch(), vocab_size=TOKENIZER.vocab_size)


def asked(count: int) -> list[Dialogue]:
    return [dataclasses.replace(one, prompt=one.prompt[:20].strip()) for one in dialogues("fresh")[:: 2000 // count]][:count]


def test_what_was_asked_is_kept_and_not_asked_again(tmp_path: Path) -> None:
    student = student_of_bytes()
    first = collect(Batched(student, "float32"), TOKENIZER, "b", asked(3), tmp_path, SilentVoice(), limit=12)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    more = collect(Batched(student, "float32"), TOKENIZER, "b", asked(3)[::-1] + asked(5), tmp_path, SilentVoice(), limit=12)
    assert {path: path.read_bytes() for path in kept} == kept and len(list(tmp_path.iterdir())) == len(kept) + 1
    assert [one.text for one in more[:3]] == [one.text for one in first][::-1] and len(more) == 8
    collect(Batched(student, "float32"), TOKENIZER, "another backbone", asked(3), tmp_path, SilentVoice(), limit=12)
    assert len(list(tmp_path.iterdir())) == len(kept) + 2


def test_an_answer_is_what_the_token_loop_says_and_has_its_places(tmp_path: Path) -> None:
    student = student_of_bytes()
    for one in collect(Batched(student, "float32"), TOKENIZER, "b", asked(4), tmp_path, SilentVoice(), limit=30):
        ids = encode_chat(TOKENIZER, [{"role": "user", "content": one.dialogue.prompt}])
        loop = generate(eager_from(student), TOKENIZER, ids, GenerationParams(GREEDY, max_new_tokens=30, eos_ids=TOKENIZER.info.eos_ids))
        assert loop.text.startswith(one.text) and one.ended == (loop.reason == "eos")  # the loop shows half a character at the end
        prefixes = ["".join(one.pieces[:t]) for t in range(len(one.pieces) + 1)]
        assert one.at.tolist() == [t for t, text in enumerate(prefixes) if ends_cleanly(text)]
        assert one.hidden.shape == (len(one.at), student.arch.d_model) and one.signals.shape == (len(one.at), 3)


def test_prompts_are_encoded_as_infer_encodes_them() -> None:
    texts = ["What is it?", "{{ x }} 'quoted' é", "a"]
    assert prompt_ids(TOKENIZER, texts) == [encode_chat(TOKENIZER, [{"role": "user", "content": text}]) for text in texts]
    plain = byte_tokenizer(chat_template=None)
    assert prompt_ids(plain, texts) == [plain.encode_prompt(text) for text in texts]


def test_a_file_that_is_not_one_of_ours_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    model = Batched(student_of_bytes(), "float32")
    collect(model, TOKENIZER, "b", asked(2), tmp_path, SilentVoice(), limit=30)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    save_file({"row": np.zeros(1, np.int32)}, file)
    with pytest.raises(ContractError, match="row, at, hidden and signals"):
        collect(model, TOKENIZER, "b", asked(2), tmp_path, SilentVoice(), limit=30)
    file.write_bytes(whole[:-8])
    with pytest.raises(ContractError):
        collect(model, TOKENIZER, "b", asked(2), tmp_path, SilentVoice(), limit=30)
    file.write_bytes(whole.replace(b'\\"ended\\"', b'\\"other\\"'))
    with pytest.raises(ContractError) as refused:
        collect(model, TOKENIZER, "b", asked(2), tmp_path, SilentVoice(), limit=30)
    assert "/answers/0/other" in str(refused.value.violations)
