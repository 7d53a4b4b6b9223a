"""Many conversations in few children: the same ids as one by one, turns that are a prompt and its continuation, errors that stay with their own."""

from __future__ import annotations

import pytest
from fakes.byte_tokenizer import CHATML, byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError, InterlockError, UsageError
from runtime.engine import chats, forks
from runtime.engine.chat import encode_chat
from runtime.engine.chats import Conversation, Said, encode_chats, encode_turns

TOKENIZER = byte_tokenizer()
END = TOKENIZER.encode("<|im_end|>", control=True)[0]


def dialogue(*contents: str) -> Conversation:
    """User and assistant in turn."""
    return Conversation([{"role": ("user", "assistant")[number % 2], "content": content} for number, content in enumerate(contents)])


pieces = st.text("a<|im_end|> \n{}é", max_size=12) | st.sampled_from(["<|im_end|>", "<|im_start|>user\nx", "{{ 1 }}"])


@settings(deadline=None, max_examples=3)
@given(st.lists(st.lists(pieces, min_size=1, max_size=4), min_size=1, max_size=20))
def test_ids_are_those_of_each_conversation_alone(found: list[list[str]]) -> None:
    conversations = [dialogue(*contents) for contents in found]
    assert list(encode_chats(TOKENIZER, conversations))[-1] == encode_chat(TOKENIZER, conversations[-1].messages)


@settings(deadline=None, max_examples=3)
@given(st.lists(st.tuples(pieces, pieces), min_size=1, max_size=20))
def test_a_turn_is_the_runtimes_prompt_and_what_the_template_writes_after_it(found: list[tuple[str, str]]) -> None:
    """What was typed stays text on both sides: the one control token of an answer is its end."""
    turns = list(encode_turns(TOKENIZER, (dialogue(asked, said) for asked, said in found)))
    for number, ((asked, said), turn) in enumerate(zip(found, turns, strict=True)):
        assert isinstance(turn, Said)
        assert turn.ids == [*TOKENIZER.encode(said), END] and turn.ids.count(END) == 1
        if number == 0:
            assert turn.prompt == encode_chat(TOKENIZER, dialogue(asked).messages)


def test_hundreds_of_conversations_share_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    real = forks.call
    monkeypatch.setattr(forks, "call", lambda *args, **more: (started.append(1), real(*args, **more))[1])
    assert len(list(encode_turns(TOKENIZER, [dialogue(f"question {n}", "answer") for n in range(300)]))) == 300
    assert len(started) == -(-600 // chats.AT_ONCE)


def test_one_that_is_refused_leaves_the_others_alone() -> None:
    template = CHATML.replace("{% for", "{% if messages[0]['content'] == 'no' %}{{ raise_exception('not this') }}{% endif %}{% for", 1)
    template = template.replace("{% for", "{% if messages[0]['content'] == 'odd' %}{{ messages.nothing.more }}{% endif %}{% for", 1)
    found = list(encode_turns(byte_tokenizer(chat_template=template), [dialogue(word, "x") for word in ("yes", "no", "odd", "yes")]))
    assert [type(one) for one in found] == [Said, UsageError, ContractError, Said]
    assert "not this" in str(found[1]) and "UndefinedError" in str(found[2])


def test_a_conversation_that_comes_to_a_limit_is_named_and_is_the_last() -> None:
    """Five share a child that runs out of memory: the two before it have their ids, those after it are not tried."""
    huge = "{% if messages[0]['content'] == 'huge' %}{{ 'a' * 2000000000 }}{% endif %}"
    found = list(encode_chats(byte_tokenizer(chat_template=huge + CHATML), [dialogue(word) for word in ("a", "b", "huge", "c", "huge")]))
    assert [isinstance(one, InterlockError) for one in found] == [False, False, True]
    assert "MB of memory" in str(found[2])


def test_one_that_is_too_long_is_not_rendered() -> None:
    found = list(encode_chats(TOKENIZER, [dialogue("x" * (3 << 20)), dialogue("y")]))
    assert isinstance(found[0], UsageError) and isinstance(found[1], list)


def test_a_template_that_rewrites_its_prompt_is_refused_with_both_texts() -> None:
    template = CHATML.replace("<|im_start|>assistant", "<|im_start|>model")
    [found] = encode_turns(byte_tokenizer(chat_template=template), [dialogue("a", "b")])
    assert isinstance(found, UsageError) and "'model" in str(found) and "'assistant" in str(found)


def test_a_turn_that_nothing_ends_is_refused() -> None:
    [found] = encode_turns(byte_tokenizer(chat_template=CHATML.replace("<|im_end|>", "")), [dialogue("a", "b")])
    assert isinstance(found, UsageError) and "eos_token" in found.remedy


def test_a_model_without_a_template_says_so() -> None:
    with pytest.raises(UsageError, match="no chat template"):
        list(encode_chats(byte_tokenizer(chat_template=None), [dialogue("a")]))
