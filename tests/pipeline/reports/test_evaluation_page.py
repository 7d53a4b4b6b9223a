"""The page of an evaluation in a real browser: one script that filters and nothing else, flips first, every item to be read; XML and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from fakes.chromium import Page, browser
from fakes.evaluations import body_of, evaluated, judged

from eval.comparison import compare
from eval.shipped import read_suite
from eval.summary import figures_of, summary
from pipeline.reports.evaluation_page import comment, evaluation_page, junit
from pipeline.reports.evaluation_view import View, compared, pieces, view

pytestmark = pytest.mark.train

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e{{ 7*7 }}|`*_[x](javascript:alert(3))"


@pytest.fixture(scope="module")
def shown() -> View:
    now, before = evaluated("smoke", seed=1, noise=0.1), evaluated("smoke", seed=2, noise=0.02)
    now[0] = {**now[0], "given": HOSTILE, "wanted": HOSTILE, "answers": {"text": {**now[0]["answers"]["text"], "text": HOSTILE}}}
    now[1]["answers"]["text"] |= {
        "calls": [{"name": HOSTILE, "arguments": {"a": HOSTILE}, "result": None, "digest": "0", "problems": [HOSTILE]}],
        "turns": [{"role": "assistant", "content": "calling"}, {"role": "tool", "content": '{"ok":false}'}],
    }
    results = list(judged("smoke", now).values())
    told = summary(read_suite("smoke"), now, figures_of(read_suite("smoke"), now, 0.95))
    return compared(view(body_of("smoke", results, len(now)), now, told), now, before, compare(now, before, 0.95, 0.05), "step 900")


@pytest.fixture(scope="module")
def file(shown: View, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "evaluation.html"
    file.write_text(evaluation_page(shown), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


def visible(page: Page) -> list[str]:
    found: list[str] = page.evaluate("[...document.querySelectorAll('details.item')].filter(item => !item.hidden).map(item => item.id)")
    return found


def choose(page: Page, selector: str, value: str) -> None:
    event = "new Event(field.tagName === 'INPUT' ? 'input' : 'change')"
    chosen = f"const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(value)}"
    page.evaluate(f"(() => {{ {chosen}; field.dispatchEvent({event}) }})()")


def test_the_page_loads_nothing_and_runs_its_own_script_alone(page: Page, file: Path) -> None:
    page.open(file)
    assert page.seen.requests == [file.as_uri()] and page.seen.complaints == [] and page.seen.dialogs == []
    assert page.evaluate("document.scripts.length") == 1
    policy = page.evaluate("document.querySelector('meta[http-equiv=Content-Security-Policy]').content")
    assert policy.startswith("default-src 'none'") and "unsafe-inline'; script" not in policy and policy.count("'sha256-") == 1
    # a script that somebody else puts in does not run
    page.evaluate(
        "(() => { const other = document.createElement('script'); other.textContent = 'document.title = 1'; document.body.append(other) })()"
    )
    assert page.evaluate("document.title") == "smoke: fail"


def test_flips_stand_first_then_what_was_missed(page: Page, file: Path, shown: View) -> None:
    page.open(file)
    states = page.evaluate("[...document.querySelectorAll('details.item')].map(item => item.dataset.state)")
    assert len(states) == 60 == len(shown.items) and "lost" in states
    rank = {"lost": 0, "gained": 1, "gate": 2, "figure": 3, "nothing": 4}
    assert [rank[state] for state in states] == sorted(rank[state] for state in states)


def test_search_and_filters_leave_what_fits(page: Page, file: Path, shown: View) -> None:
    page.open(file)
    everything = visible(page)
    choose(page, "#search", "CAPITAL of")
    words = visible(page)
    assert 0 < len(words) < len(everything)
    assert words == [f"item-{item.row['id']}" for item in shown.items if "capital" in item.words and "of" in item.words]
    choose(page, "#search", "")
    choose(page, "select[data-filter=state]", "lost")
    assert len(visible(page)) == sum(item.state.startswith("lost") for item in shown.items)
    choose(page, "select[data-filter=state]", "")
    choose(page, "select[data-filter=false]", "spoke")
    assert len(visible(page)) == sum(item.row["scores"]["spoke"] is False for item in shown.items)
    choose(page, "select[data-filter=false]", "")
    choose(page, "select[data-filter=by-stratum]", "arithmetic")
    assert len(visible(page)) == sum(item.row["strata"]["stratum"] == "arithmetic" for item in shown.items)
    assert page.evaluate("document.getElementById('shown').textContent") == f"{len(visible(page))} of 60 items"


def test_an_item_can_be_read_whole(page: Page, file: Path) -> None:
    page.open(file)
    page.evaluate("document.querySelectorAll('details').forEach(item => { item.open = true })")
    text = page.evaluate("document.body.innerText")
    for words in (read_suite("smoke").description, "said something", "Asked", "Wanted", "nothing recorded", "calling", "7*7", "onerror=alert(2)"):
        assert words in text, words
    assert page.seen.dialogs == [] and page.evaluate("document.images.length") == 0 and "\u202e" not in text
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(item => item.id)")
    assert len(set(ids)) == len(ids) and page.evaluate("[...document.querySelectorAll('th')].every(cell => cell.scope)")


def test_an_item_that_misses_a_figure_without_a_gate_does_not_look_right() -> None:
    rows = evaluated("smoke", lambda item, answers, _: {"text": replace(answers["text"], text="Well.")} if item.id == "0-test-1" else answers)
    told = summary(read_suite("smoke"), rows, figures_of(read_suite("smoke"), rows, 0.95))
    made = view(body_of("smoke", list(judged("smoke", rows).values()), len(rows)), rows, told)
    states = {item.row["id"]: item.state for item in made.items}
    assert states.pop("0-test-1") == "figure" and set(states.values()) == {"nothing"} and made.items[0].figures == ("right",)


def test_what_changed_is_marked_word_by_word(page: Page, file: Path, shown: View) -> None:
    assert pieces("It is in Asia.", "It is in old Europe.") == [("same", "It is in "), ("gone", "Asia."), ("new", "old Europe.")]
    for old, new in (("", "a"), ("a b\n c", "a  b c"), ("x " * 50, "x y " * 50)):
        for dropped, whole in (("new", old), ("gone", new)):
            assert "".join(text for kind, text in pieces(old, new) if kind != dropped) == whole
    page.open(file)
    changed = sum(bool(item.changes("text")) for item in shown.items)
    assert 0 < changed < 60 and page.evaluate("document.querySelectorAll('details.item:has(ins, del)').length") == changed


def test_a_telephone_needs_no_scrolling_sideways(page: Page, file: Path) -> None:
    page.open(file, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_xml_has_a_case_for_each_gate_and_names_what_was_missed(shown: View) -> None:
    suite = ET.fromstring(junit(shown))[0]
    cases = {case.get("name"): case for case in suite}
    failed = [name for name, case in cases.items() if case.find("failure") is not None]
    assert suite.get("tests") == str(len(cases)) and suite.get("failures") == str(len(failed))
    assert set(cases) >= {gate.name for gate in shown.gates} and "spoke" in failed
    failure = cases["spoke"].find("failure")
    assert failure is not None and failure.text and set(failure.text.split("\n")) <= set(shown.missed("spoke"))


def test_the_comment_is_a_table_that_no_answer_can_break(shown: View) -> None:
    lines = comment(shown).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert rows[0].count("|") == 7 and all(line.count("|") - line.count("\\|") == 7 for line in rows if not line.startswith("|---"))
    assert any(line.startswith("| spoke | at least 0.9 |") and "fail" in line for line in rows)


def test_equal_evaluations_give_equal_bytes(shown: View) -> None:
    assert evaluation_page(shown) == evaluation_page(shown)
