"""Running checks: whatever one does, the others' findings come, in time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.errors import StageFailed
from pipeline.doctor.asking import ask
from pipeline.doctor.finding import Finding, info
from pipeline.doctor.place import Place
from pipeline.doctor.running import Check, examine
from pipeline.driver.store import Store

pytestmark = pytest.mark.train


def well(place: Place) -> Iterator[Finding]:
    yield info("well")


def silent(place: Place) -> Iterator[Finding]:
    yield from ()


def stuck(place: Place) -> Iterator[Finding]:
    time.sleep(30)
    yield info("late")


def broken(place: Place) -> Iterator[Finding]:
    yield info("before")
    raise ZeroDivisionError("of its own")


def lacking(place: Place) -> Iterator[Finding]:
    import no_such_package  # type: ignore[import-not-found]

    yield info(str(no_such_package))


def refused(place: Place) -> Iterator[Finding]:
    raise StageFailed("no space is left", remedy="free some")
    yield info("never")


def unreadable(place: Place) -> Iterator[Finding]:
    yield info((place.root / "no.toml").read_text())


def check(name: str) -> Check:
    return Check(name, "machine", f"{__name__}:{name}", limit_s=1.0)


def test_every_check_answers_in_its_place_and_none_holds_up_the_others(tmp_path: Path) -> None:
    names = ["well", "stuck", "broken", "silent", "lacking", "refused", "unreadable", "well_not_there"]
    started = time.monotonic()
    found = examine([check(name) for name in names], Place(tmp_path, Store(tmp_path), "uv"))
    assert time.monotonic() - started < 5
    assert [(one.check, one.level) for one in found] == [
        ("well", "info"), ("stuck", "warning"), ("broken", "info"), ("broken", "error"), ("lacking", "warning"), ("refused", "error"),
        ("unreadable", "error"), ("well_not_there", "error"),
    ]  # fmt: skip
    told = {one.check: one for one in found}
    assert "no answer in 1 s" in told["stuck"].found and "ZeroDivisionError: of its own" in told["broken"].found
    assert "no_such_package" in told["lacking"].found and told["refused"].remedy == "free some" and "no.toml" in told["unreadable"].found
    assert all(one.group == "machine" and one.evidence for one in found if one.level != "info")


def test_a_program_that_is_stuck_is_ended_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    answer = ask(["sh", "-c", f"(sleep 3; touch {mark}) & sleep 60"], limit_s=0.5)
    assert answer.code is None and "gave no answer in 0.5 s" in answer.why
    time.sleep(3.2)
    assert not mark.exists()


def test_an_answer_tells_why_there_is_none(tmp_path: Path) -> None:
    assert "does not start" in ask([tmp_path / "nothing"]).why
    assert ask([sys.executable, "-c", "import sys; print('a'); sys.exit('the last word')"]).why == "the last word"
    assert ask([sys.executable, "-c", "raise SystemExit(7)"]).why == "it ended with status 7"
