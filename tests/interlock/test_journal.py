"""What a journal has taken survives a kill at any byte, and what it gives back is what it took."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock import journal
from interlock.errors import ContractError, StageFailed

RECORDS = {"one": {"text": "é\n\u2028 \U0001f600", "n": [1, 2.5, None]}, "two": {"text": ""}, "three": {"text": "x" * 300}}
WRITER = """
import sys
from pathlib import Path
from interlock import journal
with journal.opened(Path(sys.argv[1])) as kept:
    for number in range(100000):
        kept.add(str(number), {"square": number * number})
        print(number, flush=True)
"""


def written(path: Path) -> bytes:
    with journal.opened(path) as kept:
        for key, record in RECORDS.items():
            kept.add(key, record)
    return path.read_bytes()


def test_what_was_added_is_found_by_this_run_and_the_next(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on" / "the" / "way.jsonl"
    written(path)
    with journal.opened(path) as kept:
        assert len(kept) == 3 and "one" in kept and "four" not in kept
        assert {key: kept.get(key) for key in RECORDS} == {key: {"key": key, **record} for key, record in RECORDS.items()}
        kept.add("one", {"text": "later"})
        assert kept.get("one")["text"] == "later"
    with journal.opened(path) as kept:
        assert len(kept) == 3 and kept.get("one")["text"] == "later"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_torn_end_costs_its_own_record_and_no_other(tmp_path: Path, data: st.DataObject) -> None:
    """At every length that a kill can leave: whole lines are there, later ones are added after what is torn."""
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    whole = written(path)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    there = [key for number, key in enumerate(RECORDS) if len(b"".join(whole.splitlines(True)[: number + 1])) - 1 <= cut]  # but for its line end
    with journal.opened(path) as kept:
        assert [key for key in RECORDS if key in kept] == there
        kept.add("four", {"text": "after"})
    with journal.opened(path) as kept:
        assert [key for key in (*RECORDS, "four") if key in kept] == [*there, "four"]
        assert all(kept.get(key)["text"] == RECORDS[key]["text"] for key in there)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_byte_costs_the_records_that_it_touches(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    whole = written(path)
    place, other = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ other]) + whole[place + 1 :])
    with journal.opened(path) as kept:
        found = [key for key in RECORDS if key in kept]
        assert len(found) >= 1  # a line end that is gone costs two
        assert all(kept.get(key)["text"] == RECORDS[key]["text"] for key in found)


def test_a_killed_writer_leaves_what_it_said_was_there_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(5)]
        with pytest.raises(StageFailed, match="another process writes"), journal.opened(path):
            pass
        time.sleep(0.02)
        process.kill()
        said += [int(line) for line in process.stdout.read().split()]
    with journal.opened(path) as kept:
        assert len(kept) >= len(said) >= 5
        assert all(kept.get(str(number))["square"] == number * number for number in said)


def test_a_file_that_changes_while_it_is_open_is_noticed(tmp_path: Path) -> None:
    written(tmp_path / "j")
    with journal.opened(tmp_path / "j") as kept:
        (tmp_path / "j").write_bytes(b"something else\n" * 30)
        with pytest.raises(StageFailed, match="was changed while it was in use"):
            kept.get("two")


def test_a_place_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for place in (tmp_path, tmp_path / "link"):
        with pytest.raises((ContractError, StageFailed)), journal.opened(place):
            pass
    assert not (tmp_path / "elsewhere").exists()
