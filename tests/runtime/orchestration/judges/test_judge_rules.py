"""Judge `rules`, and judges that are read from words and files."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError, UsageError
from runtime.orchestration.judges.opening import opened, read
from runtime.orchestration.judges.rules import Rules, rules
from runtime.orchestration.judges.verdict import Verdict, together

pytestmark = pytest.mark.train


def said(answer: str, **fields: object) -> Verdict:
    return rules(Rules.model_validate({"kind": "rules", **fields}))("a request", answer)


@pytest.mark.parametrize(
    ("fields", "answer", "score"),
    [
        ({"contains": ("Paris",)}, "It is Paris.", 1.0),
        ({"contains": ("paris",)}, "It is Paris.", 0.0),
        ({"contains": ("paris",), "ignore_case": True}, "It is PARIS.", 1.0),
        ({"lacks": ("sorry",)}, "I am sorry", 0.0),
        ({"min_words": 3, "max_words": 4, "max_chars": 7}, " one two three ", 2 / 3),
        ({"min_chars": 3}, "  ab  ", 0.0),
        ({"matches": (r"^\d+$", "b"), "avoids": ("c",)}, "12\nb", 2 / 3),
        ({"matches": (r"(?<=a)b",), "ignore_case": True}, "AB", 1.0),
        ({}, "anything", 1.0),
    ],
)
def test_the_score_is_the_share_of_rules_that_hold(fields: dict[str, object], answer: str, score: float) -> None:
    made = said(answer, **fields)
    assert made.score == pytest.approx(score) and bool(made.feedback) == (score < 1)


def test_feedback_and_record_name_what_does_not_hold() -> None:
    made = said("It is Rome.", contains=("Paris", "Rome"), max_words=2)
    assert made.feedback == "It must contain `Paris`. It has 3 words, at most 2 are allowed." and made.failing == 2
    assert made.record == {"checks": 3, "failed": ["contains `Paris`", "max_words 2"]}


@settings(max_examples=40)
@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=3), max_size=4))
def test_texts_are_found_as_python_finds_them(answer: str, texts: list[str]) -> None:
    made = said(answer, contains=tuple(texts))
    assert made.failing == sum(text not in answer for text in texts)


def test_a_pattern_that_backtracks_for_ever_ends_in_seconds() -> None:
    started = time.monotonic()
    made = said("a" * 60 + "!", matches=("^(a+)+$",), contains=("a",))
    assert time.monotonic() - started < 15 and made.score == 0.5
    assert "no end after" in json.dumps(made.record)


def test_several_judges_are_as_content_as_the_least_content() -> None:
    judge = together([("one", lambda *_: Verdict(0.9, "Good.")), ("two", lambda *_: Verdict(0.4, "Bad.", 2, {"seen": 1}))])
    made = judge("request", "answer")
    assert (made.score, made.feedback, made.failing) == (0.4, "Good. Bad.", 2)
    first, second = made.record["judges"]
    assert (first["judge"], second["judge"], second["seen"]) == ("one", "two", 1) and first["wall_ms"] >= 0


def test_words_and_files_name_judges_and_all_of_them_count(tmp_path: Path) -> None:
    file = tmp_path / "judge.toml"
    file.write_text('[[judge]]\nkind = "rules"\ncontains = ["b"]\n[[judge]]\nkind = "rules"\nmax_words = 2\n')
    judge = opened(read([str(file), "contains:a"]))
    assert judge("", "a b").score == 1 and judge("", "b").score == 0 and judge("", "a b c").score == 0
    as_json = tmp_path / "judge.json"
    as_json.write_text(json.dumps({"judge": [{"kind": "rules", "contains": ["b"]}]}))
    assert opened(read([str(as_json)]))("", "b").score == 1


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[[judge]]\nkind = "rules"\nsurprise = 1\n', "/judge/0/rules/surprise"),
        ('[[judge]]\nkind = "rules"\nmatches = ["("]\n', "/judge/0/rules/matches"),
        ('[[judge]]\nkind = "oracle"\n', "/judge/0"),
        ('[[judge]]\nkind = "command"\nargv = []\n', "/judge/0/command/argv"),
        ('[[judge]]\nkind = "schema"\n', "/judge/0/schema"),
        ("judge = []\n", "/judge"),
        ("[[judge\n", ""),
    ],
)
def test_a_judge_file_that_is_none_is_refused_by_place(tmp_path: Path, text: str, where: str) -> None:
    file = tmp_path / "judge.toml"
    file.write_text(text)
    with pytest.raises(ContractError) as refused:
        read([str(file)])
    assert where == refused.value.violations[0].where


@pytest.mark.parametrize("word", ["nowhere.toml", "matches:(", "command:'", "contains:"])
def test_a_word_that_names_no_judge_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        read([word])
