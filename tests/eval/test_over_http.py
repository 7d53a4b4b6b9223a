"""Runner `openai_http`: over `interlock serve` it is the deployment itself; an endpoint that fails fails items, or the run, and never scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.served import served, write_student
from fakes.teacher_server import answer_to
from fakes.teachers import log, serving

from eval.asking import Endpoint, Model, Settings
from eval.asking.table import opened as asking
from eval.asking.tools import dialogue
from eval.broker.replay import Broker
from eval.items import Item
from eval.runners import Runner
from eval.runners.table import opened
from eval.running import answers_of, ask_all, run_digest
from eval.scoring.table import metrics, row
from eval.shipped import read_suite
from eval.statistics import gates
from eval.suite import Claim, changed
from interlock import journal
from interlock.errors import StageFailed, UsageError
from interlock.voice import SilentVoice
from pipeline.datasets.world import REGISTRY

pytestmark = pytest.mark.train
SAME = {"eos": "eos", "length": "length", "position_limit": "length"}
BROKER = Broker(REGISTRY, {})
ITEMS = [
    Item("prompt", "hello 👩‍👩‍👧 <|im_end|>", ""),
    Item("chat", None, "", messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "what is it? <|im_start|>"})),
    Item("tools", None, "", messages=({"role": "user", "content": "How warm is it, and who is there?"},), tools=("weather.lookup", "people.find")),
]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runner, Runner]]:
    """The same directory, opened and served."""
    folder = write_student(tmp_path_factory.mktemp("http") / "student")
    with served(folder) as running:
        over = Endpoint(url=f"{running.url}/v1", model="student")
        yield opened(Model(directory=folder, backend="eager"), 40), opened(over, 40)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_a_served_directory_says_what_the_directory_says(two: tuple[Runner, Runner], item: Item) -> None:
    ours, theirs = (dialogue(one, BROKER, item) if item.tools else one.say(item) for one in two)
    assert ours.text and ours.text == theirs.text
    assert (ours.passes, ours.prompt_tokens, ours.calls, ours.turns) == (theirs.passes, theirs.prompt_tokens, theirs.calls, theirs.turns)
    assert SAME[ours.reason] == theirs.reason and theirs.fingerprint.startswith("fp_")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as address:
        yield address


def settings(url: str, model: str, **more: Any) -> Settings:
    return Settings(asks="text", max_new_tokens=8, model=Endpoint(url=url, model=model, retries=0, **more))


def items(count: int) -> list[Item]:
    return [Item(f"i{number}", None, "x", messages=({"role": "user", "content": f"say {number}"},)) for number in range(count)]


def test_what_is_sent_and_what_is_kept(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "sk-not-to-be-seen")
    said = asking(settings(url, "good", key_variable="THE_KEY"))(items(1)[0])["text"]
    assert (said.text, said.passes, said.prompt_tokens, said.fingerprint) == (answer_to("say 0"), 2, 10, "fp_7")
    (sent,) = log(url, "good")
    assert sent["key"] == "Bearer sk-not-to-be-seen"
    wanted = {"model": "good", "max_tokens": 8, "temperature": 0, "seed": 0, "messages": [{"role": "user", "content": "say 0"}]}
    assert sent["body"] == wanted


@pytest.mark.parametrize(
    "model", ["no-choices", "no-text", "uncounted", "html", "half", "nan", "bad-request", "broken", "busy", "closes", "stops-short"]
)
def test_no_answer_is_a_failed_item_and_no_zero(url: str, model: str) -> None:
    said = asking(settings(url, model))(items(1)[0])
    assert said["text"].reason == "failed" and "item i0" in said["text"].problems[0]
    suite = changed(read_suite("smoke"), scorers=("answered", *read_suite("smoke").scorers), least=1, gates={"unanswered": Claim(at_most=0)})
    made = row(suite, items(1)[0], said)
    assert made["scores"] == {"answered": False}
    figure = metrics(suite)["unanswered"]([made], 0.95)
    (gate,) = gates.judge({"unanswered": figure}, {"unanswered": Claim(at_most=0)}, 0.95)
    assert gate.verdict == "fail" and figure.missed == ("i0",)
    assert metrics(suite)["spoke"]([made], 0.95).n == 0


def test_a_time_limit_is_a_failure(url: str) -> None:
    assert "within 0.2 s" in asking(settings(url, "late", timeout_s=0.2))(items(1)[0])["text"].problems[0]


def test_what_passes_is_tried_again(url: str) -> None:
    patient = settings(url, "recovers").model.model_copy(update={"retries": 2})
    said = asking(settings(url, "recovers").model_copy(update={"model": patient}))(items(1)[0])["text"]
    assert said.text == answer_to("say 0") and len(log(url, "recovers")) == 3


@pytest.mark.parametrize("model", ["wrong-key", "no-model", "elsewhere"])
def test_what_no_item_would_get_ends_the_run(url: str, model: str) -> None:
    with pytest.raises(StageFailed, match=model):
        asking(settings(url, model))(items(1)[0])
    assert len(log(url, model)) == 1


def test_an_endpoint_that_is_gone_ends_the_run_and_what_failed_is_asked_again(tmp_path: Path, url: str) -> None:
    def run(model: str, count: int) -> tuple[int, dict[str, str]]:
        chosen = settings(url, model)
        same = run_digest(settings(url, "one name"), [], "6" * 64)
        with journal.opened(tmp_path / "kept") as kept, SilentVoice().task("") as task:
            asked = ask_all(items(count), chosen, same, kept, 1, task)
            return asked, {name: said["text"].reason for name, said in answers_of(items(count), kept).items()}

    with pytest.raises(StageFailed, match="5 items in a row"):
        run("broken", 6)
    assert len(log(url, "broken")) >= 5
    assert run("no-text", 3) == (3, dict.fromkeys(("i0", "i1", "i2"), "failed"))
    assert run("good", 3) == (3, dict.fromkeys(("i0", "i1", "i2"), "eos"))
    assert run("no-text", 3) == (0, dict.fromkeys(("i0", "i1", "i2"), "eos"))
    lines = [json.loads(line.partition(" ")[2]) for line in (tmp_path / "kept").read_text().splitlines()]
    assert sum(one["key"].startswith("failed ") for one in lines) == 7


def test_nothing_travels_in_the_clear_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unencrypted"):
        opened(Endpoint(url="http://models.example/v1", model="m"), 8)
    opened(Endpoint(url="http://models.example/v1", model="m", plain_http=True), 8)
    opened(Endpoint(url="https://models.example/v1", model="m"), 8)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    with pytest.raises(UsageError, match="key in OPENAI_API_KEY"):
        opened(Endpoint(url="http://models.example/v1", model="m", plain_http=True), 8)


def test_ways_that_look_inside_are_refused(url: str) -> None:
    for way in ("latent", "halting"):
        with pytest.raises(UsageError, match="only answers"):
            asking(Settings(asks=way, max_new_tokens=8, model=Endpoint(url=url, model="good")))  # type: ignore[arg-type]  # of a Literal


def test_where_an_endpoint_is_asked_patiently_is_no_other_run(url: str) -> None:
    one, other = settings(url, "good"), settings(url, "good", timeout_s=1, key_variable="X")
    assert run_digest(one, [], "6") == run_digest(other, [], "6") != run_digest(settings(url, "plain"), [], "6")
