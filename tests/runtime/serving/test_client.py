"""The server as the `openai` client sees it: what it answers is what the engine generates, streamed or whole, alone or beside others."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
import torch
from fakes.served import Served, served, write_student

from benchmarks.serving import Server, soak
from interlock.contracts import checkpoint, io
from runtime.engine.chat import encode_chat
from runtime.engine.generate import generate
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import Generation, GenerationParams
from runtime.load import Loaded, load
from runtime.orchestration.attempts import refine
from runtime.orchestration.judges.opening import opened, read
from runtime.orchestration.prompts import asked
from runtime.orchestration.refine import Rules
from runtime.student.checkpoint import random_student
from runtime.student.model import Student

pytestmark = pytest.mark.train

NEVER = "contains:what this model never says"
ASKED: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello 👩‍👩‍👧 <|im_end|>"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("models") / "student")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with served(folder, "--judge", NEVER) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load(folder)


@pytest.fixture
def client(server: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def alone(loaded: Loaded, ids: list[int], **params: Any) -> Generation:
    sampling = {name: params.pop(name) for name in ("temperature", "top_p", "top_k", "seed") if name in params}
    return generate(loaded.backend, loaded.tokenizer, ids, GenerationParams(SamplingParams(**sampling), eos_ids=loaded.info.eos_ids, **params))


def test_a_chat_is_what_the_engine_says(client: openai.OpenAI, loaded: Loaded) -> None:
    ids = encode_chat(loaded.tokenizer, ASKED)
    for params in ({"temperature": 0.0}, {"temperature": 0.9, "top_p": 0.8, "seed": 3}):
        expected = alone(loaded, ids, max_new_tokens=40, **params)
        answer = client.chat.completions.create(model="student", messages=ASKED, max_completion_tokens=40, **params)  # type: ignore[call-overload]
        assert answer.choices[0].message.content == expected.text
        assert answer.choices[0].finish_reason == {"eos": "stop", "length": "length"}[expected.reason]
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), len(expected.tokens))
        assert answer.usage.total_tokens == len(ids) + len(expected.tokens)


def test_a_stream_is_the_same_answer_in_pieces(client: openai.OpenAI) -> None:
    body: Any = {"model": "student", "messages": ASKED, "max_tokens": 30, "seed": 4, "temperature": 0.7, "n": 3, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**body)
    texts, ends, logprobs = ["", "", ""], ["", "", ""], [[], [], []]  # type: ignore[var-annotated]
    last: Any = None
    for chunk in client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}):
        last = chunk
        for choice in chunk.choices:
            assert not ends[choice.index], "nothing comes after the end"
            assert (choice.delta.role == "assistant") == (not texts[choice.index] and not logprobs[choice.index])
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ""
            logprobs[choice.index] += choice.logprobs.content
    assert texts == [choice.message.content for choice in whole.choices] and len(set(texts)) == 3
    assert ends == [choice.finish_reason for choice in whole.choices]
    assert logprobs == [choice.logprobs.content for choice in whole.choices]
    cached = {"prompt_tokens_details"}  # the second time the prompt is there already
    assert last.choices == [] and last.usage.model_dump(exclude=cached) == whole.usage.model_dump(exclude=cached)


def test_log_probabilities_are_of_the_tokens_of_the_text(client: openai.OpenAI, loaded: Loaded) -> None:
    answer = client.chat.completions.create(model="student", messages=ASKED, max_tokens=12, logprobs=True, top_logprobs=3, temperature=0)
    expected = alone(loaded, encode_chat(loaded.tokenizer, ASKED), max_new_tokens=12, logprobs=3)
    content = answer.choices[0].logprobs.content  # type: ignore[union-attr]
    said = [one for one in expected.logprobs if one.token not in loaded.info.eos_ids]
    assert [entry.logprob for entry in content or []] == pytest.approx([one.logprob for one in said], abs=1e-4)
    assert b"".join(bytes(entry.bytes or []) for entry in content or []).decode("utf-8", "replace") == expected.text
    for entry in content or []:
        assert len(entry.top_logprobs) == 3 and entry.top_logprobs[0].bytes == entry.bytes  # greedy
        assert sum(math.exp(top.logprob) for top in entry.top_logprobs) < 1


def test_a_stop_text_ends_the_answer_and_is_in_neither_text_nor_log_probabilities(client: openai.OpenAI, loaded: Loaded) -> None:
    whole = client.completions.create(model="student", prompt="abc", max_tokens=30).choices[0].text
    stop = whole[7:9]
    expected = whole[: whole.index(stop)]
    for stream in (False, True):
        got: Any = client.completions.create(model="student", prompt="abc", max_tokens=30, stop=[stop, "never said"], logprobs=0, stream=stream)
        choices = [chunk.choices[0] for chunk in got] if stream else [got.choices[0]]
        assert "".join(choice.text for choice in choices) == expected
        assert choices[-1].finish_reason == "stop"
        tokens = [token for choice in choices for token in choice.logprobs.tokens]
        assert sum(len(token.encode()) for token in tokens if not token.startswith("bytes:")) <= len(expected.encode())


def test_text_completions_of_several_prompts(client: openai.OpenAI, loaded: Loaded) -> None:
    answer = client.completions.create(model="student", prompt=["abc", "xyz"], n=2, seed=7, temperature=1, max_tokens=10, logprobs=2)
    for place, (prompt, seed) in enumerate((prompt, seed) for prompt in ("abc", "xyz") for seed in (7, 8)):
        expected = alone(loaded, loaded.tokenizer.encode_prompt(prompt), seed=seed, temperature=1.0, max_new_tokens=10, logprobs=2)
        choice = answer.choices[place]
        assert (choice.index, choice.text) == (place, expected.text)
        assert choice.logprobs and choice.logprobs.text_offset and choice.logprobs.text_offset[0] == 0
        assert choice.logprobs.token_logprobs == pytest.approx(
            [one.logprob for one in expected.logprobs][: len(choice.logprobs.tokens or [])], abs=1e-4
        )
    assert answer.usage and answer.usage.prompt_tokens == 6


def test_concurrent_clients_get_their_own_texts(client: openai.OpenAI, loaded: Loaded) -> None:
    """Twenty at a time, streamed and whole, with beginnings in common; then once more, from kept caches."""

    def ask(number: int) -> str:
        prompt = ("A preamble that is long enough to be kept. " * (number % 3)) + f"question {number}"
        got: Any = client.completions.create(model="student", prompt=prompt, max_tokens=15 + number, stream=number % 2 == 0, temperature=0)
        return "".join(chunk.choices[0].text for chunk in got) if number % 2 == 0 else got.choices[0].text

    with ThreadPoolExecutor(20) as pool:
        rounds = [list(pool.map(ask, range(20))) for _ in range(2)]
    for number in range(20):
        prompt = ("A preamble that is long enough to be kept. " * (number % 3)) + f"question {number}"
        expected = alone(loaded, loaded.tokenizer.encode_prompt(prompt), max_new_tokens=15 + number).text
        assert [texts[number] for texts in rounds] == [expected, expected], number


def test_two_seconds_of_mixed_load(server: Served) -> None:
    """Of the half hour that `python -m benchmarks.serving --soak` runs: clients that leave, do not read and send nonsense change nobody's answer."""
    told = soak(Server(server.port, "student", server.started["pid"]), 2, 6, count=8)
    assert (told["differs"], told["anothers"]) == (0, 0)
    assert told["whole"] > 0 and told["left"] + told["unread"] + told["nonsense"] > 0
    assert server.process.poll() is None


def test_models_are_listed(client: openai.OpenAI, loaded: Loaded) -> None:
    (listed,) = client.models.list().data
    assert listed == client.models.retrieve("student")
    assert (listed.id, listed.model_dump()["digest"]) == ("student", loaded.digest)
    with pytest.raises(openai.NotFoundError, match="there is `student`"):
        client.models.retrieve("gpt-9")
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-9", messages=ASKED)
    assert refused.value.code == "model_not_found" and refused.value.param == "model"


SCHEMA = {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
          "required": ["unit", "days"], "additionalProperties": False}  # fmt: skip
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": "the weather", "parameters": SCHEMA}} for name in ("here", "there")
]


@pytest.mark.parametrize(
    ("choice", "parallel"), [("required", True), ("required", False), ({"type": "function", "function": {"name": "there"}}, True)]
)
def test_tools_are_called_as_their_schemas_say_streamed_or_whole(client: openai.OpenAI, choice: Any, parallel: bool) -> None:
    body: Any = {
        "model": "student",
        "messages": ASKED,
        "tools": TOOLS,
        "tool_choice": choice,
        "parallel_tool_calls": parallel,
        "temperature": 1,
        "seed": 5,
    }
    (whole,) = client.chat.completions.create(**body, max_tokens=1500).choices
    assert whole.finish_reason == "tool_calls" and whole.message.content is None
    called = [(call.function.name, call.function.arguments) for call in whole.message.tool_calls]
    assert {name for name, _ in called} <= ({"here", "there"} if choice == "required" else {"there"})
    assert len(called) == 1 or parallel
    for _, arguments in called:
        jsonschema.validate(json.loads(arguments), SCHEMA)
    streamed: list[list[str]] = []
    ids, end = set(), None
    for chunk in client.chat.completions.create(**body, max_tokens=1500, stream=True):
        (choice_,) = chunk.choices
        end = choice_.finish_reason or end
        for call in choice_.delta.tool_calls or []:
            if call.function.name is not None:
                assert call.index == len(streamed) and call.type == "function"
                streamed.append([call.function.name, ""])
                ids.add(call.id)
            streamed[call.index][1] += call.function.arguments or ""
        assert not choice_.delta.content
    assert end == "tool_calls" and len(ids) == len(streamed)
    assert [(name, json.loads(said)) for name, said in streamed] == [(name, json.loads(said)) for name, said in called]


def test_a_conversation_goes_on_after_calls(client: openai.OpenAI) -> None:
    """With the message that came back, as a client holds it, and a result for each call."""
    asked: Any = {"model": "student", "tools": TOOLS, "max_tokens": 300, "temperature": 1, "seed": 5}
    said = client.chat.completions.create(**asked, messages=ASKED, tool_choice="required", parallel_tool_calls=False).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "20"} for call in said.tool_calls]
    for choice in ("auto", "none"):
        more = client.chat.completions.create(**asked | {"max_tokens": 5}, messages=[*ASKED, said, *results], tool_choice=choice)
        assert more.usage.prompt_tokens > 0
    assert more.choices[0].message.content and not more.choices[0].message.tool_calls


def test_an_answer_has_the_form_that_was_asked_for(client: openai.OpenAI) -> None:
    for schema in (SCHEMA, {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 4}):
        form: Any = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, "strict": True}}
        (choice,) = client.chat.completions.create(model="student", messages=ASKED, response_format=form, max_tokens=200, logprobs=True).choices
        jsonschema.validate(json.loads(choice.message.content or ""), schema)
        assert choice.finish_reason == "stop"
        told = b"".join(bytes(entry.bytes or []) for entry in choice.logprobs.content or [])  # type: ignore[union-attr]  # forced ones included
        assert told.decode() == choice.message.content
    (choice,) = client.chat.completions.create(model="student", messages=ASKED, response_format={"type": "json_object"}, max_tokens=20).choices
    assert (choice.message.content or "").startswith("{")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"), ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "nowhere"}}}, None), ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, None), ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"requird": []}}}}, None),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"), ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": []}, {"role": "assistant", "content": None}]}, "messages[1]"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_or_enforced_is_refused(client: openai.OpenAI, more: dict[str, Any], param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": "student", "messages": ASKED, **more})
    assert refused.value.param == param


def test_an_answer_is_refined_as_the_engine_refines_it(client: openai.OpenAI, loaded: Loaded) -> None:
    """The judge likes no answer of this model: it has two loops, and the better of two equal answers is the first."""
    params = GenerationParams(SamplingParams(temperature=0.0), 20, eos_ids=loaded.info.eos_ids)
    expected = refine(loaded, asked(ASKED), params, Rules(0.8, None, 2), opened(read([NEVER])))
    body: dict[str, Any] = {"model": "student", "messages": ASKED, "max_tokens": 20, "temperature": 0.0}
    answer = client.chat.completions.create(**body, extra_body={"refine": True})
    told = answer.model_dump()
    assert answer.choices[0].message.content == expected.answer.generation.text
    assert told["refinement"] == {"halt_reason": "max_loops_reached", "attempt": expected.best + 1, "score": 0.0}
    assert (told["usage"]["loops"], told["usage"]["completion_tokens"]) == (2, expected.efficiency.generated_tokens)
    assert told["usage"]["prompt_tokens"] == expected.efficiency.prompt_tokens
    assert client.chat.completions.create(**body).model_dump()["usage"]["loops"] == 1


def test_many_refined_answers_at_once_are_their_own(client: openai.OpenAI) -> None:
    def ask(number: int) -> str:
        messages: Any = [{"role": "user", "content": f"question {number}"}]
        got = client.chat.completions.create(model="student", messages=messages, max_tokens=12, temperature=0.0, extra_body={"refine": True})
        return str(got.choices[0].message.content)

    one_by_one = [ask(number) for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(ask, range(10))) == one_by_one


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"stream": True}, "stream"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]}, "tools"),
        ({"messages": [*ASKED, {"role": "tool", "content": "1", "tool_call_id": "a"}]}, "tool_calls"),
    ],
)
def test_what_cannot_be_refined_is_refused_by_name(client: openai.OpenAI, more: dict[str, Any], name: str) -> None:
    with pytest.raises(openai.BadRequestError, match=f"`refine` and `{name}`"):
        client.chat.completions.create(**{"model": "student", "messages": ASKED, **more}, extra_body={"refine": True})


@pytest.fixture(scope="module")
def student(folder: Path) -> Student:
    """What is served, as a model of torch."""
    contract = io.read_contract(folder / checkpoint.FILE, checkpoint.CheckpointContract)
    return random_student(contract.arch, contract.model_arch, seed=5).requires_grad_(False)


def test_each_token_of_an_echoed_prompt_is_scored_as_by_one_pass_of_the_student(client: openai.OpenAI, loaded: Loaded, student: Student) -> None:
    """Of a text and of ids, read in one piece or several, beside each other; and the same once more."""
    text = "hello world, the quick brown fox 👩‍👩‍👧 jumps <|im_end|> over"
    ids = loaded.tokenizer.encode_prompt(text)
    prompts: list[list[int]] = [ids, ids[:1], ids[:16], ids[:17]]
    assert len(ids) > 40
    for prompt in (text, prompts, prompts):
        got: Any = client.completions.create(model="student", prompt=prompt, echo=True, logprobs=3, max_tokens=1, temperature=0)
        asked = prompts if prompt is prompts else [ids]
        for choice, given in zip(got.choices, asked, strict=True):
            told, count = choice.logprobs, len(given)
            scores = torch.log_softmax(student(torch.tensor([given])).logits[0].double(), -1)
            assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset) == count + 1
            assert told.token_logprobs[0] is None and told.top_logprobs[0] is None
            assert told.token_logprobs[1:count] == pytest.approx([scores[k, given[k + 1]].item() for k in range(count - 1)], abs=1e-4)
            for top, best in zip(told.top_logprobs[1:], scores.topk(3).values.tolist(), strict=True):
                assert sorted(top.values(), reverse=True) == pytest.approx(best[: len(top)], abs=1e-4)
            assert told.token_logprobs[count] == pytest.approx(scores[-1].max().item(), abs=1e-4)
            assert choice.text.startswith(loaded.tokenizer.decode(given))
        assert (got.usage.prompt_tokens, got.usage.prompt_tokens_details.cached_tokens) == (sum(map(len, asked)), 0)


def test_an_echo_counts_a_token_that_ends_the_text(client: openai.OpenAI, loaded: Loaded, student: Student) -> None:
    """Harnesses take the last one off: it must be there whatever it is."""
    likeliest = student(torch.arange(loaded.info.vocab_size)[:, None]).logits[:, 0].argmax(-1).tolist()
    before = next(token for token, best in enumerate(likeliest) if best in loaded.info.eos_ids)
    got: Any = client.completions.create(model="student", prompt=[before], echo=True, logprobs=1, max_tokens=1, temperature=0)
    assert got.choices[0].finish_reason == "stop" and len(got.choices[0].logprobs.tokens) == 2


def test_echo_alone_puts_the_prompt_before_its_text(client: openai.OpenAI) -> None:
    options: Any = {"model": "student", "prompt": ["hello", "world"], "max_tokens": 5, "temperature": 0}
    plain, echoed = client.completions.create(**options), client.completions.create(**options, echo=True)
    assert [choice.text for choice in echoed.choices] == ["hello" + plain.choices[0].text, "world" + plain.choices[1].text]
    assert echoed.choices[0].logprobs is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"echo": True, "stream": True}, "stream"), ({"prompt": [1, 9999]}, "token 9999"), ({"prompt": []}, "prompt"), ({"prompt": [-1]}, "prompt")],
)
def test_prompts_that_cannot_be_are_refused(client: openai.OpenAI, wrong: dict[str, Any], told: str) -> None:
    body: Any = {"model": "student", "prompt": "a", "max_tokens": 1, **wrong}
    with pytest.raises(openai.BadRequestError, match=told):
        client.completions.create(**body)
