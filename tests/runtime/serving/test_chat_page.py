"""A model that reasons in latent spans, asked over the interface and on the page in a real browser: both tell what it does besides speaking."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fakes.chromium import Page, browser
from fakes.latent_students import ANSWER, HALTS_AFTER, THRESHOLD
from fakes.served import Served, served, write_latent_student

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model, config = write_latent_student(tmp_path_factory.mktemp("models") / "student")
    with served(model, "--config", str(config), "--model-name", "<b>toy</b>") as running:
        yield running


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


def test_latent_spans_are_told(server: Served) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    asked: Any = {"model": "<b>toy</b>", "messages": [{"role": "user", "content": "a"}]}
    whole = client.chat.completions.create(**asked)
    used = whole.usage.model_dump()
    assert whole.choices[0].message.content == ANSWER
    assert (used["latent_steps"], used["latent_slots"]) == (HALTS_AFTER + 1, HALTS_AFTER)  # the slots, and `<eot>`
    assert (used["latent_spans"], used["loops"]) == (1, 1)
    assert used["completion_tokens_details"]["reasoning_tokens"] == HALTS_AFTER + 1
    assert used["halt_probability"] >= THRESHOLD
    stream: Any = client.chat.completions.create(**asked, stream=True, stream_options={"include_state": True})  # type: ignore[call-overload]  # ours
    states = [chunk.model_dump()["state"] for chunk in stream]
    assert sorted({state["latent_slots"] for state in states}) == list(range(1, HALTS_AFTER + 1))
    halts = [state["halt_probability"] for state in states]
    assert all(halt < THRESHOLD for halt in halts[: HALTS_AFTER - 1]) and all(halt >= THRESHOLD for halt in halts[HALTS_AFTER - 1 :])


def ask(page: Page, text: str) -> None:
    """Type it, send it, and wait until the answer is over."""
    page.evaluate(f"document.getElementById('text').value = {json.dumps(text)}; document.getElementById('form').requestSubmit()")
    deadline = time.monotonic() + 60
    while page.evaluate("document.getElementById('send').textContent !== 'Send' || !document.querySelector('.assistant:last-child p')?.textContent"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = page.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map(element => element.textContent)")
    return found


def test_the_page_shows_what_the_model_does(server: Served, page: Page) -> None:
    page.open(f"{server.url}/")
    ask(page, "a")
    ask(page, "c")
    assert texts(page, ".user p") == ["a", "c"]
    assert texts(page, ".assistant p") == [ANSWER, ANSWER]
    (slots, *_) = texts(page, ".slots")
    assert slots == f"{HALTS_AFTER} latent slots in 1 span"
    assert page.evaluate("document.querySelectorAll('.assistant:last-child .slots i').length") == HALTS_AFTER
    assert float(page.evaluate("document.querySelector('meter').value")) >= THRESHOLD
    assert texts(page, ".loops") == ["1 loop", "1 loop"]
    # The second question brought the first along: `a`, its answer, `c`.
    assert any("4 + 8 tokens" in text for text in texts(page, ".assistant:last-child .state span"))


def test_slots_and_halt_probability_are_shown_as_they_come(server: Served, page: Page) -> None:
    """What the page shows at each change of it: every slot by itself, the head surer at the last, and only then words."""
    page.open(f"{server.url}/")
    page.evaluate("""(() => {
        const talk = document.getElementById("talk");
        window.shown = [];
        new MutationObserver(() => {
            const said = talk.querySelector(".assistant");
            const halt = said?.querySelector("meter")?.value ?? null;
            if (said) window.shown.push([said.querySelectorAll(".slots i").length, halt, said.querySelector("p").textContent]);
        }).observe(talk, {childList: true, subtree: true, characterData: true});
    })()""")
    ask(page, "a")
    shown: list[tuple[int, float | None, str]] = [(slots, halt, text) for slots, halt, text in page.evaluate("window.shown")]
    silent = [slots for slots, _, text in shown if not text]
    assert silent == sorted(silent) and set(silent) == set(range(HALTS_AFTER + 1))
    assert all((halt is not None and halt >= THRESHOLD) == (slots == HALTS_AFTER) for slots, halt, _ in shown if slots)
    assert shown[-1][0] == HALTS_AFTER and shown[-1][2] == ANSWER and texts(page, ".loops") == ["1 loop"]


def test_what_is_said_is_text_and_nothing_is_loaded_from_elsewhere(server: Served, page: Page) -> None:
    """A name, a question and an error that would be HTML if they could; the policy would stop what got through."""
    page.open(f"{server.url}/")
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    ask(page, hostile)
    assert texts(page, ".user p") == [hostile] and texts(page, "h1") == ["<b>toy</b>"]
    assert page.evaluate("document.querySelectorAll('img, b, main script').length") == 0
    page.evaluate("const late = document.createElement('script'); late.textContent = 'alert(3)'; document.body.append(late)")
    assert page.seen.dialogs == []
    assert {url.removeprefix(server.url) for url in page.seen.requests} == {"/", "/v1/models", "/v1/chat/completions"}
    assert all("Content Security Policy" in text for text in page.seen.complaints) and page.seen.complaints  # of the third alone


def test_an_error_is_shown_and_not_remembered(server: Served, page: Page) -> None:
    page.open(f"{server.url}/", 400, dark=True)
    ask(page, "?")  # no token of this model stands for it
    assert "the prompt has no tokens" in texts(page, ".failed p")[0]
    ask(page, "a")
    assert texts(page, ".assistant p")[-1] == ANSWER
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
