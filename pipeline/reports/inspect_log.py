"""An evaluation as a log of inspect_ai, which its viewer and its analyses open.

Here: the document, version 2 of the log format as JSON (inspect_ai, `log/_log.py`: `EvalLog`). Not here: where it lies (pipeline/verbs/report.py).
Nothing is lost that the format has a place for: what an item was asked, said and scored; each figure with its interval as the metrics of a scorer of
that name; the rest stands in `metadata`. Every message has an id of its own: the reader takes messages with one id for one message.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from interlock import __version__
from interlock.contracts.evaluation import EvaluationContract

STOPS = {"eos": "stop", "stop": "stop", "halt": "stop", "length": "max_tokens", "position_limit": "model_length", "failed": "unknown"}


def inspect_log(contract: EvaluationContract, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], made: datetime.datetime) -> bytes:
    """rows: of results.jsonl; summary: that of summary.json; made: when the evaluation was published (its contract has no time)."""
    model = f"interlock/{contract.subject.name}"
    samples = [_sample(model, row, contract.digest) for row in rows]
    greedy = {"temperature": contract.decoding.temperature, "max_tokens": contract.decoding.max_new_tokens, "seed": contract.decoding.seed}
    config = {name: value for name, value in greedy.items() if value is not None}
    document = {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": contract.digest[:22],
            "run_id": contract.digest[:22],
            "created": made.astimezone(datetime.timezone.utc).isoformat(timespec="seconds"),
            "task": contract.suite,
            "task_id": contract.digest[22:44],
            "task_version": contract.schema_version,
            "dataset": {"name": next((ref.digest[:16] for ref in contract.inputs if ref.kind == "dataset"), contract.suite),
                        "samples": len(rows), "sample_ids": [row["id"] for row in rows], "shuffled": False},
            "model": model,
            "model_generate_config": config,
            "model_args": {"runner": contract.runner, "backend": contract.backend, **contract.subject.model_dump()},
            "config": {"epochs": 1},
            "packages": {"interlock": __version__},
            "metadata": {"digest": contract.digest, "verdict": contract.verdict, "prompts": contract.prompts,
                         "gates": [gate.model_dump(mode="json") for gate in contract.gates], **summary.get("asked", {})},
            "scorers": [{"name": name} for name in summary["figures"]],
        },
        "plan": {"steps": [{"solver": contract.runner}], "config": config},
        "results": {
            "total_samples": len(rows),
            "completed_samples": sum("error" not in sample for sample in samples),
            "scores": [_score(name, figure, len(rows)) for name, figure in summary["figures"].items()],
        },
        "stats": {"model_usage": {model: _sum(sample["model_usage"][model] for sample in samples)}},
        "samples": samples,
    }  # fmt: skip
    return (json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def _score(name: str, figure: Mapping[str, Any], items: int) -> dict[str, Any]:
    """A figure: no metrics where no item was eligible."""
    metrics = {part: {"name": part, "value": figure[part]} for part in ("measured", "low", "high") if part in figure}
    return {"name": name, "scorer": name, "scored_samples": figure["n"], "unscored_samples": items - figure["n"], "metrics": metrics,
            "metadata": {"interval_by": figure["method"]}}  # fmt: skip


def _sample(model: str, row: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """The first way in which an item was asked is what its messages show; the others stand in its metadata."""
    said, *others = row["answers"].values()
    messages = list(_messages(model, row, said))
    more = {name: row[name] for name in ("steps", "strata", "cluster", "expected") if name in row}
    told = {name: said[name] for name in ("reason", "slots", "spans", "problems", "malformed", "numbers", "fingerprint") if name in said}
    usage = {"input_tokens": said.get("prompt_tokens", 0), "output_tokens": said["passes"], "reasoning_tokens": said.get("slots", 0)}
    usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]
    failed = {"error": {"message": "; ".join(said.get("problems", ())), "traceback": "", "traceback_ansi": ""}} if said["reason"] == "failed" else {}
    return {
        "id": row["id"],
        "epoch": 1,
        "input": row["given"],
        "target": row["wanted"],
        "uuid": f"{digest[:16]}-{row['id']}",
        "messages": messages,
        "output": {"model": model, "choices": [{"message": messages[-1], "stop_reason": STOPS[said["reason"]]}], "completion": said["text"],
                   "usage": usage},
        "scores": {name: _value(score) for name, score in row["scores"].items() if score is not None and score != []},
        "metadata": {**more, "said": told, **({"other ways": others} if others else {})},
        "model_usage": {model: usage},
        **failed,
    }  # fmt: skip


def _messages(model: str, row: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The question, rounds of calls and replayed results, the answer."""
    number, calls, turns = 0, list(enumerate(said.get("calls", ()))), list(said.get("turns", ()))

    def message(role: str, content: str, **more: Any) -> dict[str, Any]:
        nonlocal number
        number += 1
        return {"id": f"{row['id']} {number}", "role": role, "content": content, **more}

    own = {"source": "generate", "model": model}
    yield message("user", row["given"], source="input")
    while turns:
        turn = turns.pop(0)
        if turn["role"] == "tool":
            place, call = calls.pop(0)
            yield message("tool", turn["content"], tool_call_id=f"call_{place}", function=call["name"])
            continue
        results = next((k for k, later in enumerate(turns) if later["role"] != "tool"), len(turns))
        made = [{"id": f"call_{place}", "function": call["name"], "arguments": call["arguments"]} for place, call in calls[:results]]
        yield message("assistant", turn["content"], tool_calls=made, **own)
    yield message("assistant", said["text"], **own)


def _value(score: Any) -> dict[str, Any]:
    """Of a list (one number per position) the mean."""
    return {"value": sum(score) / len(score), "metadata": {"values": len(score)}} if isinstance(score, list) else {"value": score}


def _sum(usages: Iterator[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for usage in usages:
        for name, count in usage.items():
            total[name] = total.get(name, 0) + count
    return total
