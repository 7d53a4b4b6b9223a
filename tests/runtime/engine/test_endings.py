"""Where a text may end, token by token, without knowing what comes."""

from __future__ import annotations

import pytest

from runtime.engine.endings import ends_cleanly


@pytest.mark.parametrize(
    "text",
    [
        "Paris.",
        "Paris is it!",
        "Really?",
        'He said "no."',
        "(It is so.)",
        "It is so. ",
        "Red\n",
        "1. Red\n",
        "1. Red.",
        "**Red.**",
        "a\n\n",
        "in 1990.",
    ],
)
def test_a_sentence_or_line_ends(text: str) -> None:
    assert ends_cleanly(text)


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "Paris", "Paris,", "1.", "1. Red\n2.", "Red\n- ", "Red\n-", "*", "12)", 'It is "so." 2.', "Items: 1.", "Red\n10.\n", "a:"]
)
def test_nothing_ends_before_something_was_said_or_after_an_enumerator(text: str) -> None:
    assert not ends_cleanly(text)
