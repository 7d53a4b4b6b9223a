"""A dialogue with replayed tools, by a scripted model: the real loop, tokenizer, chat template and broker around it."""

from __future__ import annotations

import pytest
from fakes.scripted import BROKER, ITEM, LOOK, TOKENIZER, scripted

from eval.asking.tools import MISS, ROUNDS, dialogue
from eval.runners.deployment import Deployment

pytestmark = pytest.mark.train

CALL = '<tool_call>[{"name": "weather.lookup", "arguments": {"place": "Gugeam"}}]</tool_call>'


def test_a_result_comes_back_and_the_answer_is_what_is_said_last() -> None:
    loaded, prompts = scripted(CALL, "Integration: It is 12 degrees.")
    said = dialogue(Deployment(loaded, 200), BROKER, ITEM)
    assert said.text == "Integration: It is 12 degrees." and said.reason == "eos"
    (made,) = said.calls
    assert made.result == {"temperature": 12} and made.arguments == LOOK.arguments and made.problems == ()
    assert [turn["role"] for turn in said.turns] == ["assistant", "tool"]
    assert '"name": "people.find"' in prompts[0] and '"name": "weather.lookup"' in prompts[0] and "no.tool" not in prompts[0]
    assert "<tool_response>" not in prompts[0].split("</tools>")[1].split("How warm")[1]
    assert prompts[1].endswith('<tool_response>{"temperature": 12}</tool_response>\nassistant\n')
    assert said.passes == len(TOKENIZER.encode_prompt(CALL)) + 1 + len(TOKENIZER.encode_prompt(said.text)) + 1


def test_a_miss_is_told_and_counted_and_goes_nowhere() -> None:
    loaded, prompts = scripted(CALL.replace("Gugeam", "Elsewhere"), "I do not know.")
    said = dialogue(Deployment(loaded, 200), BROKER, ITEM)
    assert said.calls[0].result is None and MISS in prompts[1]


def test_rounds_come_to_an_end() -> None:
    loaded, prompts = scripted(*[CALL] * (ROUNDS + 1))
    said = dialogue(Deployment(loaded, 200), BROKER, ITEM)
    assert len(prompts) == ROUNDS == len(said.calls) and said.text == ""


def test_what_cannot_be_read_is_counted_and_ends_it() -> None:
    loaded, prompts = scripted('<tool_call>[{"name": "weather.lookup", "arguments": {"place": "Gug')
    said = dialogue(Deployment(loaded, 200), BROKER, ITEM)
    assert said.malformed == 1 and said.calls == () and len(prompts) == 1
