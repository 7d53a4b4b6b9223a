"""Suite `refinement` on a student whose every answer is known: what was answered once, what again, why that ended, and what that shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.latent_students import known_student, trained, write_checkpoint

from eval.answers import Answered
from eval.asking import Ask, Model, Settings, refinement
from eval.items import Item
from eval.running import run_digest
from eval.scoring.table import row
from eval.shipped import read_suite
from eval.summary import figures_of, summary
from interlock.errors import UsageError
from runtime import limits
from runtime.effective import Resolved, resolve

pytestmark = pytest.mark.train
SUITE = read_suite("refinement")
ITEMS = [Item(f"i{number:02}", "abcd"[number % 4], " z" if number < 36 else " y", 4 - number % 4) for number in range(40)]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("refinement") / "known", known_student(), trained())


def opened(known: Path, *judges: str) -> Ask:
    return refinement.opened(Settings(asks="refinement", max_new_tokens=32, model=Model(directory=known, backend="eager"), judges=judges))


def test_an_answer_that_will_do_is_given_once(known: Path) -> None:
    said = opened(known, "contains:z")(ITEMS[0])
    assert said["text"] == Answered("bcde z", "eos", 7, prompt_tokens=1)
    assert said["refined"] == Answered(
        "bcde z", "eos", 7, prompt_tokens=1, numbers={"judge_score": (1.0,)}, loops=1, refined_until="judge_score_threshold"
    )


def test_one_that_never_will_is_asked_for_as_often_as_the_tier_allows(known: Path) -> None:
    said = opened(known, "contains:never", "contains:z")(ITEMS[0])["refined"]
    assert (said.loops, said.refined_until, said.numbers["judge_score"]) == (2, "max_loops_reached", (0.0, 0.0))
    # both attempts and both prompts, the second of which has the first answer in it
    assert said.text == "bcde z" and said.passes > 7 and said.prompt_tokens > 2 + len("bcde z")


def test_figures_tell_what_refining_gains_and_takes(known: Path) -> None:
    ask = opened(known, "matches:^bcd")  # what comes after prompt `a` alone
    rows = [row(SUITE, item, ask(item)) for item in ITEMS]
    found = figures_of(SUITE, rows, 0.95)
    measured = {name: figure.interval.measured for name, figure in found.items() if figure.interval}
    firsts = [one["scores"]["judged_once"] for one in rows]
    assert firsts == [float(item.prompt == "a") for item in ITEMS] and measured["judged_once"] == 0.25
    assert measured["right_once"] == 0.9 and measured["loops"] == sum(1 if first else 2 for first in firsts) / 40
    assert measured["content"] == sum(one["scores"]["content"] for one in rows) / 40 >= 0.25
    assert measured["judged"] >= measured["judged_once"] and found["right_change"].n == 40
    assert measured["right_change"] == pytest.approx(measured["right"] - measured["right_once"])
    assert summary(SUITE, rows, found)["means"]["passes"] > summary(SUITE, rows, found)["means"]["passes_once"]


def test_what_cannot_be_refined_is_refused() -> None:
    def resolved(**given: object) -> Resolved:
        return resolve(None, limits.Model(trained()), environ=None, given=given, giver="test")

    refinement.check(resolved(halt_head_enabled=True), judged=False)
    with pytest.raises(UsageError, match="no judge and the model no halt head"):
        refinement.check(resolved(halt_head_enabled=False), judged=False)
    with pytest.raises(UsageError, match=r"tier_1 .* allows one answer"):
        refinement.check(resolved(caws_tier="tier_1"), judged=True)


def test_a_judge_is_a_part_of_the_run_by_what_it_says(known: Path, tmp_path: Path) -> None:
    for name, text in (("one.toml", '"z"'), ("same.toml", '"z"'), ("other.toml", '"y"')):
        (tmp_path / name).write_text(f'[[judge]]\nkind = "rules"\ncontains = [{text}]\n')
    settings = [
        Settings(asks="refinement", max_new_tokens=32, model=Model(directory=known, backend="eager"), judges=(str(tmp_path / name),))
        for name in ("one.toml", "same.toml", "other.toml")
    ]
    one, same, other = (run_digest(each, ["5" * 64, refinement.digest(each.judges)], "6" * 64) for each in settings)
    assert one == same != other
