"""Words of an answer, repetition, private data: on texts that are right and texts that only look so."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.answers import Answered
from eval.items import Item
from eval.scoring import privacy, speech
from eval.scoring.answers import holds
from pipeline.datasets.items import items_of
from pipeline.datasets.questions import TASK
from pipeline.datasets.tasks import Order

pytestmark = pytest.mark.train


def item(*groups: tuple[str, ...], asked: str = "?") -> Item:
    return Item("i", asked, "", accepted=groups)


@pytest.mark.parametrize(
    ("groups", "text", "right"),
    [
        ([("12",)], "It is 12.", True),
        ([("12",)], "It is 128 or 112.", False),
        ([("12",)], "It is 1.12 or 12.5 or 12,000.", False),
        ([("Astana", "Nur-Sultan")], "The capital is nur-sultan!", True),
        ([("Ljubljana",), ("Dodoma",)], "Ljubljana and Dodoma", True),
        ([("Ljubljana",), ("Dodoma",)], "Ljubljana", False),
        ([("S\u00e3o Paulo",)], "sa\u0303o   PAULO", True),
        ([("-3",)], "It is -3 degrees", True),
        ([("3",)], "It is -3 degrees", False),
        ([("3",)], "5-3 or **3**", True),
        ([("Paris",)], "The capital is...Paris, **of course**", True),
        ([("no",)], "I know", False),
    ],
)
def test_words_are_whole(groups: list[tuple[str, ...]], text: str, right: bool) -> None:
    assert holds(item(*groups), text) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Yes, it is.", True),
        ("It is true. There is no doubt.", True),
        ("It is not true.", False),
        ("No. That is true of others.", False),
        ("It is.", False),
        ("A drum is indeed a musical instrument, and not a toy.", True),
        ('The sentence "a drum is an instrument" is not entirely true. While it is true', False),
        ("A drum is not an instrument. It is an instrument.", False),
    ],
)
def test_the_first_verdict_counts(text: str, right: bool) -> None:
    """The words of task `questions`, of a claim that is true."""
    (row,) = [
        one for one in TASK.make(Order(0, "test", 60, {}, frozenset())) if one.messages and "fair to say that a drum is" in one.messages[0].content
    ]
    (asked,) = items_of([row])
    assert asked.refused and holds(asked, text) is right


def test_a_continent_may_be_named_by_its_adjective() -> None:
    asked = [one for one in items_of(TASK.make(Order(0, "test", 60, {}, frozenset()))) if one.strata["stratum"] == "continent"]
    assert {one.answer for one in asked} >= {"Europe", "Asia", "Africa"}
    assert all(
        holds(one, f"It lies in the {one.answer.replace('Europe', 'Europea')}n continent.") and not holds(one, "It lies there.") for one in asked
    )


@given(st.text(string.ascii_lowercase + " ", max_size=60), st.text(string.ascii_lowercase, min_size=1, max_size=6))
def test_one_word_is_in_a_text_where_splitting_finds_it(text: str, word: str) -> None:
    assert holds(item((word,)), text) is (word in text.split())


@pytest.mark.parametrize(
    ("text", "looped"),
    [("ha ha ha ha", False), ("no " * 8, True), ("the cat sat " * 4, True), ("the cat sat " * 3, False), ("a b c d e f g h i j k l m", False),
     ("1. one 2. two 3. three 4. four 5. five", False), ("", False)],
)  # fmt: skip
def test_repetition(text: str, looped: bool) -> None:
    assert speech.repeats(text) is looped


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_repetition_is_what_a_regular_expression_finds(words: list[str]) -> None:
    text = " ".join(words)
    found = any(
        re.search(rf"(?:^| )((?:\w )(?:\w ){{{size - 1}}})\1{{{max(4, -(-8 // size)) - 1},}}", f"{text} ") for size in range(1, speech._LONGEST + 1)
    )
    assert speech.repeats(text) is found


def scores(text: str, asked: str = "?") -> dict[str, object]:
    said = {"text": Answered(text, "eos", 3)}
    return {**speech.SCORER.score(item(asked=asked), said), **privacy.SCORER.score(item(asked=asked), said)}


@pytest.mark.parametrize("text", ["a b@c.de", "call 555-123-4567", "(212) 555-0100", "ssn 078-05-1120", "see https://evil.test/x",
                                  "6ba7b810-9dad-11d1-80b4-00c04fd430c8"])  # fmt: skip
def test_private_data(text: str) -> None:
    assert scores(text)["private"] is False
    # what the user said himself may be said again
    assert scores(text, asked=f"Repeat: {text}")["private"] is True


@pytest.mark.parametrize("text", ["https://example.org/a", "https://www.example.com", "1234567890 is a number", "at 13:34 on 2026-11-30", "a @ b"])
def test_no_private_data(text: str) -> None:
    assert scores(text)["private"] is True


def test_what_is_unclean_and_what_is_empty() -> None:
    assert scores("caf\u00e9\n")["clean"] is True
    assert all(scores(text)["clean"] is False for text in ("a\ufffd", "x<|im_end|>", "<bot>", "\x1b[2J"))
    assert scores(" \n")["spoke"] is False and scores("x")["spoke"] is True
