"""A published evaluation of a suite with tools, from rows that an oracle answered, and one item that got no answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fakes.evaluations import body_of, evaluated
from fakes.makers import maker

from eval.shipped import read_suite
from eval.summary import figures_of, summary
from interlock.contracts import evaluation, io
from interlock.contracts.base import InputRef
from interlock.contracts.evaluation import EvaluationContract


def write_inspected(directory: Path) -> tuple[EvaluationContract, list[dict[str, Any]]]:
    """The contract and the rows."""
    suite, rows = read_suite("contextual"), evaluated("contextual")[:12]
    calls = next(row for row in rows if "calls" in row["answers"]["text"])["answers"]["text"]
    calls["turns"] = [{"role": "assistant", "content": "<tool_call>[…]</tool_call>"},
                      *({"role": "tool", "content": json.dumps(call["result"])} for call in calls["calls"])]  # fmt: skip
    rows[3] = {
        **rows[3],
        "answers": {"text": {"text": "", "reason": "failed", "passes": 0, "problems": ["no answer"]}},
        "scores": {"answered": False},
    }
    told = summary(suite, rows, figures_of(suite, rows, 0.95))
    directory.mkdir(parents=True)
    (directory / evaluation.RESULTS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "summary.json").write_text(json.dumps(told))
    body = {**body_of("contextual", (), len(rows)), "prompts": "3" * 64}
    inputs = (InputRef(kind="deployment", digest="a" * 64), InputRef(kind="dataset", digest="b" * 64))
    contract = EvaluationContract(created_by=maker("eval"), inputs=inputs, files=io.entries(directory), **body).sealed()
    assert isinstance(contract, EvaluationContract)
    (directory / evaluation.FILE).write_bytes(io.pretty(contract))
    return contract, rows
