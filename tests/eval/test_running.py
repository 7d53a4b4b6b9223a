"""Asking many items: kills lose nothing and repeat nothing, several processes and several shards end in the same bytes."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from fakes import eval_work
from fakes.forks import exit_code
from fakes.latent_students import known_student, trained, write_checkpoint

from eval import worker
from eval.asking import Model, Settings
from eval.items import Item, shard_of
from eval.running import answers_of, ask_all, run_digest, taken_over
from eval.scoring.table import row
from eval.shipped import read_suite
from interlock import journal
from interlock.errors import ContractError, StageFailed, UsageError
from interlock.voice import SilentVoice

pytestmark = pytest.mark.train
SUITE = read_suite("latent")


def test_twenty_kills_lose_no_answer_and_repeat_none(tmp_path: Path) -> None:
    kept, log, chance = tmp_path / "kept.jsonl", tmp_path / "log", random.Random(4)
    killed = sum(exit_code(eval_work.ask_until_killed, kept, log, 160, chance.uniform(0.01, 0.06)) == -9 for _ in range(20))
    assert killed >= 15
    assert exit_code(eval_work.ask_until_killed, kept, log, 160, 60.0) == 0
    lines = [line.split() for line in log.read_text().splitlines()]
    finished = Counter(name for what, name in lines if what == "kept")
    assert set(finished.values()) == {1}
    # an item that was asked twice was never kept before: at most one for each kill
    asked = Counter(name for what, name in lines if what == "asked")
    assert len(asked) == 160 and sum(asked.values()) <= 160 + killed
    with journal.opened(kept) as opened:
        found = answers_of(eval_work.items(160), opened)
    assert found == {item.id: eval_work.oracle(item) for item in eval_work.items(160)}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    known = write_checkpoint(tmp_path_factory.mktemp("running") / "known", known_student(), trained())
    return Settings(asks="latent", max_new_tokens=32, model=Model(directory=known, backend="eager"))


def items() -> list[Item]:
    """None like another: what is asked twice is answered once."""
    return [Item(f"i{number:02}", "abcdefghij"[number % 10] * (1 + number // 10), " z", 1 + number % 4) for number in range(24)]


def written(settings: Settings, file: Path, asked: list[Item], *, jobs: int = 1, shards: tuple[Path, ...] = ()) -> tuple[bytes, int]:
    """The results of items, and how many were asked now."""
    run = run_digest(settings, ["5" * 64], "6" * 64)
    with journal.opened(file) as kept, SilentVoice().task("") as task:
        taken_over(((str(one), record) for one in shards for record in journal.records(one)), run, kept)
        count = ask_all(asked, settings, run, kept, jobs, task)
        found = answers_of(asked, kept)
    return b"".join(json.dumps(row(SUITE, item, found[item.id])).encode() + b"\n" for item in asked), count


def test_any_order_any_processes_any_shards_are_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    whole, asked = written(settings, tmp_path / "whole", items())
    assert asked == 24 and written(settings, tmp_path / "whole", items()) == (whole, 0)
    written(settings, tmp_path / "back", items()[::-1])
    assert written(settings, tmp_path / "back", items()) == (whole, 0)
    assert written(settings, tmp_path / "two", items(), jobs=2) == (whole, 24)
    shards = [[item for item in items() if shard_of(item.id, 4) == number] for number in range(4)]
    assert sorted(item.id for shard in shards for item in shard) == [item.id for item in items()]
    for number, shard in enumerate(shards):
        written(settings, tmp_path / f"shard-{number}", shard)
    merged = written(settings, tmp_path / "merged", items(), shards=tuple(tmp_path / f"shard-{number}" for number in range(4)))
    assert merged == (whole, 0)


def test_answers_of_another_run_are_refused(settings: Settings, tmp_path: Path) -> None:
    written(settings, tmp_path / "one", items()[:1])
    longer = settings.model_copy(update={"max_new_tokens": 31})
    with pytest.raises(UsageError, match="another run"):
        written(longer, tmp_path / "two", items()[:1], shards=(tmp_path / "one",))


def test_what_another_process_cannot_do_is_told_here(settings: Settings, tmp_path: Path) -> None:
    plain = write_checkpoint(tmp_path / "plain", known_student(), None)
    wrong = settings.model_copy(update={"model": Model(directory=plain, backend="eager")})
    with worker.started(wrong, 1) as (ask,), pytest.raises(ContractError, match="no latent training"):
        ask(items()[0])


def test_the_run_depends_on_what_an_answer_depends_on_and_not_on_where_things_lie(settings: Settings) -> None:
    def digest(settings: Settings, model: str = "5", program: str = "6") -> str:
        return run_digest(settings, [model * 64], program * 64)

    moved = settings.model_copy(update={"model": Model(directory=Path("/elsewhere"), backend="eager")})
    assert digest(settings) == digest(moved)
    others = [settings.model_copy(update={"max_new_tokens": 3}), settings.model_copy(update={"asks": "text"}),
              settings.model_copy(update={"model": Model(directory=Path("x"), backend="torchscript")})]  # fmt: skip
    assert len({digest(settings), digest(settings, model="4"), digest(settings, program="4"), *map(digest, others)}) == 6


def test_a_journal_in_use_is_not_shared(tmp_path: Path) -> None:
    with journal.opened(tmp_path / "kept"), pytest.raises(StageFailed, match="another process"), journal.opened(tmp_path / "kept"):
        pass
