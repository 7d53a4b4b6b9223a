"""Many requests: answered in order, each kept as it comes, written as one file when all are there.

Here: going on after a kill, the file, the summary. Not here: one answer (the verb).
What is finished stands in a journal beside the output, under a key of everything that decides an answer: the request, the model, the configuration,
the way it is asked. So the same command goes on, and another one takes nothing over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interlock.fs import Fs, save_file
from interlock.journal import Journal, opened
from interlock.voice import Voice
from runtime.infer.requests import Request
from runtime.infer.results import lines
from runtime.orchestration.inference import InferenceOrchestrator

Answer = Callable[[Request], dict[str, Any]]


def journal_of(out: Path) -> Path:
    """Where the answers of a batch stand until all are there."""
    return out.with_name(f".{out.name}.journal")


def run(requests: Sequence[Request], out: Path, ways: dict[str, Any], answer: Answer, voice: Voice) -> list[dict[str, Any]]:
    """Every result in order, after they were written to `out`. ways: what decides an answer beside the request. Raises what `answer` raises, and
    StageFailed where another process writes the same file."""
    keys = [_key(ways, number, request) for number, request in enumerate(requests)]
    with opened(journal_of(out)) as journal:
        kept = sum(key in journal for key in keys)
        if kept:
            voice.step(f"{kept} of {len(requests)} were answered before")
        _answer_missing(requests, keys, journal, answer, voice)
        results = [journal.get(key)["result"] for key in keys]
        save_file(out, lines(results))
        Fs().unlink(journal_of(out))
    return results


def ways_of(asked: InferenceOrchestrator, judges: Sequence[Any], refine: bool) -> dict[str, Any]:
    """Everything but the request that decides an answer."""
    return {
        "model": asked.loaded.digest,
        "backend": asked.loaded.backend_name,
        "config": asked.config.model_dump(mode="json"),
        "choices": asdict(asked.choices),
        "raw": asked.raw,
        "form": repr(asked.form),
        "refine": refine,
        "judges": list(judges),
    }


def _answer_missing(requests: Sequence[Request], keys: Sequence[str], journal: Journal, answer: Answer, voice: Voice) -> None:
    with voice.task("generate", total=len(requests), unit="prompts") as task:
        for request, key in zip(requests, keys, strict=True):
            task.note(request.id)
            if key not in journal:
                journal.add(key, {"result": answer(request)})
            task.advance()


def _key(ways: dict[str, Any], number: int, request: Request) -> str:
    # In ASCII: a request may hold half of a surrogate pair, which is refused when it is encoded for the model.
    told = json.dumps([ways, number, request.id, request.messages], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
