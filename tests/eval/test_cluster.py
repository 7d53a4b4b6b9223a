"""A real Ray cluster of two nodes on this machine answers items: the same bytes as here, whatever is lost on the way, and no one else's answers."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import clusters
from fakes.latent_students import known_student, trained, write_checkpoint

from eval.asking import Model, Settings
from eval.cluster import Order
from eval.items import Item
from eval.running import answers_of, ask_all, ask_nodes, run_digest
from eval.scoring.table import row
from eval.shipped import read_suite
from interlock import journal
from interlock.errors import EnvironmentRefused, StageFailed, UsageError
from interlock.voice import SilentVoice

pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]
SUITE = read_suite("latent")
Settled = tuple[Settings, str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with clusters.nodes(2) as made:
        yield made


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Settled:
    known = write_checkpoint(tmp_path_factory.mktemp("cluster") / "known", known_student(), trained())
    settings = Settings(asks="latent", max_new_tokens=32, model=Model(directory=known, backend="eager"))
    return settings, run_digest(settings, ["5" * 64], "6" * 64)


def items(count: int) -> list[Item]:
    return [Item(f"i{number:03}", "abcdefghij"[number % 10] * (1 + number // 10), " z", 1 + number % 4) for number in range(count)]


class Meddling:
    """A journal. Calls what it is given once so many answers are kept."""

    def __init__(self, kept: journal.Journal, events: dict[int, Callable[[], None]]) -> None:
        self._kept, self._events, self.count = kept, events, 0

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def add(self, key: str, record: dict[str, Any]) -> None:
        assert key not in self._kept
        self._kept.add(key, record)
        self.count += 1
        self._events.get(self.count, lambda: None)()

    def get(self, key: str) -> dict[str, Any]:
        return self._kept.get(key)


def asked(
    cluster: Any, settled: Settled, place: Path, wanted: list[Item], events: dict[int, Callable[[], None]] | None = None
) -> tuple[bytes, int, list[list[str]]]:
    """Results, how many were asked, and the [node, process] that prepared themselves."""
    log = place / "log"
    log.mkdir(exist_ok=True)
    order = Order(settled[1], functools.partial(clusters.prepare, *settled, log))
    with journal.opened(place / "kept") as kept, SilentVoice().task("") as task:
        count = ask_nodes(wanted, order, cluster.address, Meddling(kept, events or {}), task)
        found = answers_of(wanted, kept)
    return rows(wanted, found), count, [file.name.split() for file in log.iterdir()]


def rows(wanted: list[Item], found: Any) -> bytes:
    return b"".join(json.dumps(row(SUITE, item, found[item.id])).encode() + b"\n" for item in wanted)


def here(settled: Settled, place: Path, wanted: list[Item]) -> bytes:
    with journal.opened(place / "here") as kept, SilentVoice().task("") as task:
        ask_all(wanted, *settled, kept, 1, task)
        return rows(wanted, answers_of(wanted, kept))


def test_two_nodes_give_the_bytes_of_one_process(cluster: Any, settled: Settled, tmp_path: Path) -> None:
    wanted = items(40)
    found, count, processes = asked(cluster, settled, tmp_path, wanted)
    assert found == here(settled, tmp_path, wanted) and count == 40
    assert len({node for node, _ in processes}) == 2
    assert asked(cluster, settled, tmp_path, wanted)[:2] == (found, 0)


def test_a_killed_process_and_a_lost_node_cost_no_answer(cluster: Any, settled: Settled, tmp_path: Path) -> None:
    wanted, third = items(200), cluster.add_node(num_cpus=1, object_store_memory=80 << 20)

    def kill() -> None:
        for file in (tmp_path / "log").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.name.split()[1]), signal.SIGKILL)

    events = {20: kill, 60: functools.partial(cluster.remove_node, third, allow_graceful=False), 120: kill}
    found, count, processes = asked(cluster, settled, tmp_path, wanted, events)
    assert found == here(settled, tmp_path, wanted) and count == 200
    assert len(processes) >= 4  # those that were killed, and those that came for them


def test_a_node_that_would_answer_another_run_stops_it(cluster: Any, settled: Settled, tmp_path: Path) -> None:
    wanted = items(4)
    order = Order("9" * 64, functools.partial(clusters.prepare, *settled, tmp_path))
    with journal.opened(tmp_path / "kept") as kept, SilentVoice().task("") as task:
        with pytest.raises(StageFailed, match=rf"would answer another run \({settled[1][:12]}, not 9{{12}}\)"):
            ask_nodes(wanted, order, cluster.address, kept, task)
        order = Order(settled[1], functools.partial(clusters.prepare_nothing, tmp_path / "weights"))
        with pytest.raises(StageFailed, match=r"node `.+` cannot answer: .*weights: expected a regular file"):
            ask_nodes(wanted, order, cluster.address, kept, task)
        assert len(kept) == 0


def test_what_cannot_be_reached_or_is_not_there_is_named(settled: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = Order(settled[1], functools.partial(clusters.prepare, *settled, tmp_path))
    with journal.opened(tmp_path / "kept") as kept, SilentVoice().task("") as task:
        with pytest.raises(StageFailed, match=r"no Ray cluster at `127\.0\.0\.1:9`"):
            ask_nodes(items(1), order, "127.0.0.1:9", kept, task)
        for address in ("nowhere", "ray://127.0.0.1:x", "127.0.0.1:66666"):
            with pytest.raises(UsageError, match=f"--ray {address} is no address"):
                ask_nodes(items(1), order, address, kept, task)
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(EnvironmentRefused, match="`--ray` needs the package `ray`") as refused:
            ask_nodes(items(1), order, "auto", kept, task)
    assert "tox run -e ray" in refused.value.remedy and refused.value.required.startswith("ray 2.")
