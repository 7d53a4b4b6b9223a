"""What is tried is what the table was measured with: the probe in the locked export environment, as an update starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.environments import environments
from interlock.errors import StageFailed
from pipeline.compat.__main__ import compare
from pipeline.updating.trial import probed

pytestmark = pytest.mark.e2e

CASES = ("trace_fixed", "trace_stateful", "trace_stateful_fp32")


def test_the_locked_environment_measures_what_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    temporary, folder, heard = tmp_path / "tmp", tmp_path / "work", []
    for place in (temporary, folder):
        place.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    column = probed(environments()["export"], folder, CASES, lambda: heard.append(1))
    assert tuple(column.cells) == CASES and len(heard) == len(CASES)
    assert compare(column) == 0, capsys.readouterr().err
    # coremltools keeps what it makes in temporary folders, and the processes of cases end without tidying up
    assert [*temporary.iterdir()] == [] and [*(folder / ".interlock").iterdir()] == []


def test_a_probe_that_cannot_start_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"(?s)the probe ended with code 2.*no case"):
        probed(environments()["export"], tmp_path, ["trace_nothing"], lambda: None)
