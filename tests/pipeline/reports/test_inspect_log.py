"""An evaluation's log in inspect_ai's format, by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.datasets import written
from fakes.inspected import write_inspected
from fakes.shell import interlock

pytestmark = pytest.mark.train


def test_the_verb_writes_what_was_said_and_refuses_what_is_no_evaluation(tmp_path: Path) -> None:
    contract, rows = write_inspected(tmp_path / "evaluation")
    said = interlock("report", tmp_path / "evaluation", "--inspect", tmp_path / "log.json")
    assert said.code == 0, said.err
    log = json.loads((tmp_path / "log.json").read_text())
    assert (log["eval"]["task"], log["eval"]["metadata"]["digest"]) == ("contextual", contract.digest)
    assert [sample["id"] for sample in log["samples"]] == [row["id"] for row in rows]
    ids = [message["id"] for sample in log["samples"] for message in sample["messages"]]
    assert len(set(ids)) == len(ids)
    called = next(sample for sample in log["samples"] if len(sample["messages"]) > 2)
    assert [message["role"] for message in called["messages"]][:3] == ["user", "assistant", "tool"]
    assert called["messages"][1]["tool_calls"][0]["id"] == called["messages"][2]["tool_call_id"]
    assert [sample["id"] for sample in log["samples"] if "error" in sample] == [rows[3]["id"]]
    written(tmp_path / "dataset", {"test": [{"id": "a", "prompt": "x", "answer": "y"}]})
    interlock("report", tmp_path / "dataset", "--inspect", tmp_path / "log.json").refused(2, "is no evaluation")
    interlock("report", tmp_path / "evaluation", "--inspect", tmp_path / "log.txt").refused(2, "no log that inspect_ai finds")
