"""Suite `latent` on a student whose every answer is known: what is right, what it took, and what that shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.latent_students import known_student, trained, write_checkpoint

from eval.answers import Answered
from eval.asking import latent
from eval.items import Item
from eval.scoring.answers import is_right
from eval.scoring.table import row
from eval.shipped import read_suite
from eval.summary import figures_of, summary
from interlock.errors import ContractError, UsageError
from runtime.load import Loaded, load

pytestmark = pytest.mark.train
SUITE = read_suite("latent")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(write_checkpoint(tmp_path_factory.mktemp("suite") / "known", known_student(), trained()))


def items(wrong: int = 0, n: int = 40) -> list[Item]:
    """Prompts `a` to `d`, of 4 to 1 steps; the last so many have an answer that the student does not give."""
    return [Item(f"i{number:02}", "abcd"[number % 4], " z" if number < n - wrong else " y", 4 - number % 4) for number in range(n)]


def rows(loaded: Loaded, asked: list[Item], most: int = 32) -> list[dict[str, object]]:
    ask = latent.asker(loaded, Path("known"), most)
    return [row(SUITE, item, ask(item)) for item in asked]


def test_both_ways_of_an_item(loaded: Loaded) -> None:
    (one,) = rows(loaded, items(n=1))
    assert one == {
        "id": "i00",
        "given": "a",
        "wanted": " z",
        "steps": 4,
        "answers": {
            "latent": {"text": " z", "reason": "eos", "passes": 8, "slots": 4, "spans": 1, "prompt_tokens": 1},
            "text": {"text": "bcde z", "reason": "eos", "passes": 7, "prompt_tokens": 1},
        },
        "scores": {"latent_accuracy": True, "text_accuracy": True, "latent_passes": 8.0, "text_passes": 7.0, "slots": 4.0},
    }


def test_figures_are_of_the_answers(loaded: Loaded) -> None:
    asked = rows(loaded, items(wrong=4))
    found = figures_of(SUITE, asked, 0.95)
    assert set(found) == {"latent_accuracy", "latent_accuracy_deepest", "latent_change", "passes_saved", "text_accuracy"}
    assert found["latent_accuracy"].interval and found["latent_accuracy"].interval.measured == 0.9
    assert found["latent_accuracy"].missed == ("i36", "i37", "i38", "i39")
    deepest = found["latent_accuracy_deepest"]
    assert (deepest.n, deepest.missed) == (10, ("i36",))
    # text takes 7, 6, 5 or 4 passes, a span and what follows always 8; only items that both ways answer rightly count: nine of each length
    saved = found["passes_saved"]
    assert saved.n == 36 and saved.interval and saved.interval.measured == pytest.approx(1 - 8 / 5.5)
    # the same items are right either way
    assert found["latent_change"].n == 40 and found["latent_change"].interval and found["latent_change"].interval.measured == 0
    told = summary(SUITE, asked, found)
    assert told["means"]["slots"] == 4 and told["by"]["steps"]["1"]["text_passes"] == 4 and told["means"]["latent_accuracy"] == 0.9


def test_an_answer_that_was_cut_off_is_wrong(loaded: Loaded) -> None:
    """Seven passes are enough for every text and one short for a span of four slots, `<eot>`, two letters and the end."""
    (item,) = items(n=1)
    said = latent.asker(loaded, Path("known"), 7)(item)
    assert said["text"].reason == "eos" and said["latent"].reason == "length" and said["latent"].text == " z"
    assert is_right(item, said["text"]) and not is_right(item, said["latent"])


def test_last_words_are_compared_character_by_character() -> None:
    item = Item("i", "p", " s1", 1)
    assert is_right(item, Answered("o3 s4 ; s1", "eos", 5))
    assert not is_right(item, Answered("o3 s4 ;is1", "eos", 5)) and not is_right(item, Answered(" s1 ", "eos", 5))


def test_a_model_that_was_not_trained_for_it_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no latent training"):
        latent.asker(load(write_checkpoint(tmp_path / "plain", known_student(), None)), tmp_path / "plain", 32)


def test_a_tier_without_spans_is_not_asked(loaded: Loaded) -> None:
    from dataclasses import replace

    from runtime.config import CawsTier
    from runtime.limits import usual_config

    config = usual_config(trained()).model_copy(update={"caws_tier": CawsTier.tier_1})
    with pytest.raises(UsageError, match="tier_1"):
        latent.spans_of(replace(loaded, config=config), Path("known"))
