"""Models as judges: one here, asked by its probabilities, and one behind an address that may misbehave."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import FunctionBackend
from fakes.teachers import log, serving

from interlock.errors import StageFailed, UsageError
from runtime.backends.protocol import Vector
from runtime.load import Loaded
from runtime.orchestration.judges.endpoint import Endpoint, endpoint
from runtime.orchestration.judges.model import INSTRUCTIONS, first_tokens, model, sureness

pytestmark = pytest.mark.train

TOKENIZER = byte_tokenizer()


def judging(chance: float, capacity: int = 4000) -> tuple[FunctionBackend, Loaded]:
    """A model that begins with `yes` with a probability of `chance` times 0.4, with `no` with the rest of 0.4, and else with another word."""
    yes, no = TOKENIZER.encode("yes")[0], TOKENIZER.encode(" No")[0]
    other = TOKENIZER.encode("z")[0]

    def logits_of(_ids: Sequence[int]) -> Vector:
        logits = np.full(TOKENIZER.vocab_size, -50, np.float32)
        logits[yes], logits[other] = math.log(0.4 * chance), math.log(0.6)
        logits[TOKENIZER.encode("No")[0]] = math.log(0.4 * (1 - chance))
        return logits

    assert no != yes
    backend = FunctionBackend(logits_of, capacity=capacity)
    return backend, Loaded(backend, "eager", TOKENIZER, TOKENIZER.info, None, "0" * 64)


@pytest.mark.parametrize("chance", [0.9, 0.5, 0.2])
def test_the_score_is_how_much_surer_it_is_of_yes(chance: float) -> None:
    backend, loaded = judging(chance)
    made = model(loaded, INSTRUCTIONS, 10.0)("What is 2 + 2?", "It is <|im_end|> 4.")
    assert made.score == pytest.approx(chance, rel=1e-5) and made.failing == (chance < 0.5)
    prompt = [token for part in backend.prompts for token in part]
    text = b"".join(TOKENIZER.token_bytes(token) for token in prompt).decode()
    assert "What is 2 + 2?" in text and "It is <|im_end|> 4." in text and INSTRUCTIONS in text
    assert prompt.count(TOKENIZER.info.eos_ids[0]) == 1  # what stands in the answer is text, no end of a message


def test_it_is_given_in_pieces_and_its_time_ends_it() -> None:
    backend, loaded = judging(0.9)
    assert model(loaded, INSTRUCTIONS, 10.0)("a" * 300, "b").score > 0.8
    assert len(backend.prompts) > 3
    with pytest.raises(StageFailed, match="within 1e-09 s"):
        model(loaded, INSTRUCTIONS, 1e-9)("a", "b")


def test_what_it_cannot_read_whole_is_not_liked() -> None:
    _, loaded = judging(0.9, capacity=100)
    assert model(loaded, INSTRUCTIONS, 10.0)("a" * 300, "b").score == 0


def test_yes_and_no_are_told_apart_by_their_first_tokens() -> None:
    yes, no = first_tokens(TOKENIZER)
    assert not {*yes} & {*no} and TOKENIZER.encode("Yes")[0] in yes and TOKENIZER.encode("no")[0] in no
    logits = np.zeros(TOKENIZER.vocab_size, np.float32)
    assert sureness(logits + np.float32(1e4), yes, no) == pytest.approx(len(yes) / (len(yes) + len(no)))


def asked(url: str, name: str, **fields: object) -> Endpoint:
    return Endpoint.model_validate({"kind": "endpoint", "url": url, "model": name, "time_s": 1.0, "retries": 0, **fields})


def test_an_endpoint_is_asked_and_its_words_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-1")
    with serving() as url:
        for name, (score, feedback) in {
            "score 0.4": (0.4, "be brief"), "in words 0.7": (0.7, ""), "number 1": (1.0, ""),
        }.items():  # fmt: skip
            made = endpoint(asked(url, name, key_variable="JUDGE_KEY"))("a request", "an answer")
            assert (made.score, made.feedback) == (score, feedback)
        sent = log(url, "score 0.4")[0]
        assert sent["key"] == "Bearer sk-1" and sent["body"]["temperature"] == 0
        (message,) = sent["body"]["messages"]
        assert "a request" in message["content"] and "an answer" in message["content"]


@pytest.mark.parametrize("name", ["score 7", "no-text", "text", "html", "nan", "deep", "late", "closes", "no-model", "endless"])
def test_what_is_no_verdict_is_an_error_and_no_score(name: str) -> None:
    with serving() as url, pytest.raises(StageFailed, match=f"judge `{name}`: expected"):
        endpoint(asked(url, name))("a request", "an answer")


def test_a_server_that_is_busy_is_asked_again() -> None:
    with serving() as url:
        judge = endpoint(asked(url, "recovers", retries=3))
        with pytest.raises(StageFailed, match="a reply with a score"):  # its answer is a letter for each word
            judge("a request", "an answer")
        assert len(log(url, "recovers")) == 3


def test_a_key_does_not_travel_in_the_clear_and_an_address_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    with pytest.raises(UsageError, match="unencrypted"):
        endpoint(asked("http://example.org/v1", "x"))
    with pytest.raises(UsageError, match="no address"):
        endpoint(asked("ftp://example.org/v1", "x"))
