"""`interlock gc` takes answers of evaluations with the models that gave them, never from a run that is writing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from interlock import journal
from pipeline.driver import answers, gc, records
from pipeline.driver.outputs import Outputs
from pipeline.driver.store import Store

LIVING, GONE = "a" * 64, "b" * 64


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an output, and three runs: of its model, of one that nothing names, and one that does not say of which."""
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / ".interlock"))
    records.save(tmp_path / ".interlock" / "outputs" / "one.json", {"digest": LIVING, "history": []})
    for run, models in {"living": [GONE, LIVING], "gone": [GONE]}.items():
        with journal.opened(answers.file_of(run)) as kept:
            answers.describe(kept, run, models)
            answers.describe(kept, run, models)
            kept.add("item", {"run": run, "answers": "x" * 1000})
            assert len(kept) == 2
    with journal.opened(answers.file_of("unsaid")) as kept:
        kept.add("item", {"run": "unsaid"})
    return tmp_path / ".interlock"


def collect(home: Path, **options: int | bool) -> list[str]:
    store = Store(home / "store")
    return sorted(one["run"] for one in gc.collect(store, Outputs(home, store), **options).answers)  # type: ignore[arg-type]


def lying(home: Path) -> list[str]:
    return sorted(file.stem for file in (home / "answers").iterdir())


def test_answers_go_with_their_model(home: Path) -> None:
    assert collect(home) == []  # all are younger than an hour
    assert collect(home, keep_s=-1, dry_run=True) == ["gone", "unsaid"] and lying(home) == ["gone", "living", "unsaid"]
    assert collect(home, keep_s=-1) == ["gone", "unsaid"] and lying(home) == ["living"]
    assert collect(home, max_answers=10_000) == []
    assert collect(home, max_answers=0) == ["living"] and lying(home) == []


def test_the_oldest_go_first(home: Path) -> None:
    for number, run in enumerate(("living", "gone", "unsaid")):
        time.sleep(0.02)
        answers.file_of(run).chmod(0o600 + number)  # its change time: in this order
    assert collect(home, max_answers=1500) == ["living"] and lying(home) == ["gone", "unsaid"]


def test_a_run_that_writes_keeps_its_answers(home: Path) -> None:
    with journal.opened(answers.file_of("gone")) as kept:
        assert collect(home, keep_s=-1) == ["unsaid"]
        kept.add("more", {"run": "gone"})
    with journal.opened(answers.file_of("gone")) as kept:
        assert "more" in kept


def test_a_run_that_begins_while_files_are_taken_loses_no_answer(home: Path) -> None:
    """One cleans all the time, one opens, adds and reads back: what was added while the file was held is in it."""
    done = threading.Event()

    def clean() -> None:
        while not done.is_set():
            answers.take(Store(home), home / "answers", set(), -1, None, dry_run=False)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for number in range(100):
            with journal.opened(answers.file_of("racing")) as kept:
                kept.add(f"{number}", {"number": number})
                assert kept.get(f"{number}")["number"] == number
    finally:
        done.set()
        cleaner.join()
