"""A builder is killed, or loses power, before any change that it makes to a store: nothing wrong is ever found, and the same work succeeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fakes import forks
from fakes.filesystems import KillingFs, RecordingFs
from fakes.publications import OLD, forget, state
from fakes.store_work import unclean, work, wrong
from reliability.power_loss import TracingFs, materialise, random_states, snapshot

Score = Callable[[str, int, int], None]


def test_killed_before_every_change_of_a_store(memory: Path, extent: bool, score: Score) -> None:
    """Insertion, records, leases, placing, rollback and cleaning, in an empty store and again in a full one."""
    recorder = RecordingFs()
    work(memory / "count", recorder)
    total = len(recorder.calls)
    assert total > 150 and unclean(memory / "count") == []
    again = RecordingFs()
    work(memory / "count", again)
    points = [("empty", n) for n in range(1, total + 1)] + [("full", n) for n in range(1, len(again.calls) + 1)]
    bad = []
    for start, n in points if extent else points[::3]:
        folder = memory / f"{start}-{n}"
        folder.mkdir()
        if start == "full":
            work(folder)
        killed = forks.exit_code(work, folder, KillingFs(n))
        found = wrong(folder)
        work(folder)
        # What is remembered of files that have just changed depends on the clock: a run may be through one call earlier.
        last = killed == 0 and n == (total if start == "empty" else len(again.calls))
        if not (killed == -9 or last) or found or state(folder / "out") != OLD or unclean(folder):
            bad.append((start, n, killed, found, unclean(folder)))
        forget(folder)
    tried = len(points) if extent else len(points[::3])
    score("kills", tried - len(bad), tried)
    assert not bad


def test_power_cut_anywhere_in_the_work_with_a_store(memory: Path, extent: bool, score: Score) -> None:
    """Folders of a store are not flushed one by one, so what was made may be gone; what is there is whole, and the work is done again."""
    number = 5000 if extent else 300
    bad = []
    for start in ("empty", "full"):
        folder = memory / start
        folder.mkdir()
        if start == "full":
            work(folder)
        before = snapshot(folder)
        tracing = TracingFs()
        work(folder, tracing)
        for n, tree in enumerate(random_states(before, tracing.trace, folder, number // 2)):
            place = memory / f"{start}-{n}"
            materialise(tree, place)
            found = wrong(place)
            work(place)
            if found or state(place / "out") != OLD or unclean(place):
                bad.append((start, n, found, unclean(place)))
            forget(place)
    score("power loss", number - len(bad), number)
    assert not bad
