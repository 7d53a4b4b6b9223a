"""Suite `latent` on a student whose every answer is known: what is right, what it took, and which items are asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.latent_students import known_student, trained, write_checkpoint

from eval.items import Item, sampled
from eval.runners.deployment import Answered
from eval.scoring.answers import is_right
from eval.suites import latent
from interlock.errors import ContractError, UsageError
from interlock.voice import SilentVoice
from runtime.load import Loaded, load

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(write_checkpoint(tmp_path_factory.mktemp("suite") / "known", known_student(), trained()))


def items(wrong: int = 0, n: int = 40) -> list[Item]:
    """Prompts `a` to `d`, of 4 to 1 steps; the last so many have an answer that the student does not give."""
    return [Item(f"i{number:02}", "abcd"[number % 4], " z" if number < n - wrong else " y", 4 - number % 4) for number in range(n)]


def ask(loaded: Loaded, asked: list[Item], most: int = 32) -> list[latent.Asked]:
    with SilentVoice().task("") as task:
        return latent.ask(loaded, asked, most, task)


def test_both_ways_of_an_item(loaded: Loaded) -> None:
    (one,) = ask(loaded, items(n=1))
    assert one.row() == {
        "id": "i00",
        "steps": 4,
        "latent": {"right": True, "text": " z", "reason": "eos", "passes": 8, "slots": 4, "spans": 1, "problems": ()},
        "text": {"right": True, "text": "bcde z", "reason": "eos", "passes": 7, "slots": 0, "spans": 0, "problems": ()},
    }


def test_figures_are_of_the_answers(loaded: Loaded) -> None:
    asked = ask(loaded, items(wrong=4))
    found = latent.figures(asked, 0.95)
    assert set(found) == set(latent.FIGURES)
    assert found["latent_accuracy"].interval and found["latent_accuracy"].interval.measured == 0.9
    assert found["latent_accuracy"].missed == ("i36", "i37", "i38", "i39")
    deepest = found["latent_accuracy_deepest"]
    assert (deepest.n, deepest.missed) == (10, ("i36",))
    # text takes 7, 6, 5 or 4 passes, a span and what follows always 8; only items that both ways answer rightly count: nine of each length
    saved = found["passes_saved"]
    assert saved.n == 36 and saved.interval and saved.interval.measured == pytest.approx(1 - 8 / 5.5)
    means = latent.summary(asked)
    assert means["all"]["slots"] == 4 and means["by_steps"]["1"]["text_passes"] == 4
    assert any("all: 40 items, right in latent mode 0.9" in line for line in latent.told(means))


def test_an_answer_that_was_cut_off_is_wrong(loaded: Loaded) -> None:
    """Seven passes are enough for every text and one short for a span of four slots, `<eot>`, two letters and the end."""
    (one,) = ask(loaded, items(n=1), 7)
    assert one.text.reason == "eos" and one.latent.reason == "length" and one.latent.text == " z"
    assert is_right(one.item, one.text) and not is_right(one.item, one.latent)


def test_last_words_are_compared_character_by_character() -> None:
    item = Item("i", "p", " s1", 1)
    assert is_right(item, Answered("o3 s4 ; s1", "eos", 5))
    assert not is_right(item, Answered("o3 s4 ;is1", "eos", 5)) and not is_right(item, Answered(" s1 ", "eos", 5))


def test_a_model_that_was_not_trained_for_it_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no latent training"):
        ask(load(write_checkpoint(tmp_path / "plain", known_student(), None)), items(n=1))


def test_a_tier_without_spans_is_not_asked(loaded: Loaded) -> None:
    from dataclasses import replace

    from runtime.config import CawsTier
    from runtime.limits import usual_config

    config = usual_config(trained()).model_copy(update={"caws_tier": CawsTier.tier_1})
    with pytest.raises(UsageError, match="tier_1"):
        latent.spans_of(replace(loaded, config=config))


def test_a_sample_does_not_depend_on_order_or_company() -> None:
    whole = items()
    some = sampled(whole, 10)
    assert some == sampled(reversed(whole), 10) and [one.id for one in some] == sorted(one.id for one in some)
    assert set(sampled(whole, 20)) > set(some) and sampled(whole, None) == whole
    # leaving out what was not chosen changes nothing
    assert sampled([*some, *(one for one in whole if one not in some)][:25], 10) == some
