"""What an evaluation costs beside the model: the time of its items, less what the model's own passes take.

Here: the measurement. Run: `envs/train/.venv/bin/python -m benchmarks.evaluating DIR --items 1000`, of a deployed directory or a checkpoint: a
small one (`interlock build random`), and one whose passes take their time (`interlock build smollm2`).
The clock runs from the first item until the last figure: prompts, the token loop, answers to the disk, scores, intervals, gates. Passes of the
model (`prefill`, `decode`, `score`) are timed inside it. What does not grow with the items, importing and opening, is left out. The part beside the
model is told for each item, too: it is the same whatever the model is, so a share for one model follows from its own time per item.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.entry import run as run_entry
from interlock import command

if TYPE_CHECKING:
    import argparse

    from eval.items import Item


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.evaluating`."""
    example = "python -m benchmarks.evaluating models/student/deployed --items 40"
    parser = command.parser("python -m benchmarks.evaluating", "what an evaluation costs beside the model", example)
    parser.add_argument("model", type=Path, metavar="DIR", help="a deployed directory or a checkpoint")
    parser.add_argument("--items", type=int, default=1000, metavar="N", help="of dataset questions, again and again (default %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=24, metavar="N", help="most tokens of an answer (default %(default)s)")
    return run_entry(parser, command.words(argv), _measure, table)


class Timed:
    """A backend whose passes are timed. seconds: of all of them."""

    def __init__(self, backend: Any) -> None:
        self._backend, self.seconds = backend, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if name not in ("prefill", "decode", "decode_many", "score"):
            return found

        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return found(*args)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from eval.runners.deployment import answer
    from eval.running import answers_of, ask_here
    from eval.scoring.table import row
    from eval.shipped import read_suite
    from eval.statistics import gates
    from eval.summary import figures_of
    from interlock import journal
    from interlock.voice import PlainVoice
    from runtime.load import load

    torch.set_num_threads(1)
    suite = read_suite("smoke")
    loaded = load(options.model)
    timed = Timed(loaded.backend)
    items = _items(options.items)
    with tempfile.TemporaryDirectory(prefix="evaluating-") as scratch, journal.opened(Path(scratch) / "answers.jsonl") as kept:
        began = time.perf_counter()
        with PlainVoice().task("ask", len(items), "items") as task:
            ask_here(items, lambda item: {"text": answer(replace(loaded, backend=timed), item, options.max_new_tokens)}, "run", kept, task)
        asked = time.perf_counter()
        found = answers_of(items, kept)
        figures = figures_of(suite, [row(suite, item, found[item.id]) for item in items], 0.95)
        gates.judge(figures, suite.gates, 0.95, suite.least)
        ended = time.perf_counter()
    whole, beside = ended - began, ended - began - timed.seconds
    return {
        "model": str(options.model),
        "items": len(items),
        "wall_s": whole,
        "model_s": timed.seconds,
        "beside_share": beside / whole,
        "beside_ms_per_item": 1000 * beside / len(items),
        "model_ms_per_item": 1000 * timed.seconds / len(items),
        "scoring_ms_per_item": 1000 * (ended - asked) / len(items),
    }


def _items(count: int) -> list[Item]:
    from pipeline.datasets import questions
    from pipeline.datasets.items import items_of
    from pipeline.datasets.tasks import Order

    known = items_of(questions.TASK.make(Order(0, "test", min(count, 600), {}, frozenset())))
    # Each has a message of its own, so that none is answered by another's answer.
    return [
        replace(
            known[number % len(known)], id=f"{number:05}", messages=({"role": "user", "content": f"{number}: {known[number % len(known)].given}"},)
        )
        for number in range(count)
    ]


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    return [
        f"{report['items']} items of {report['model']}: {report['wall_s']:.1f} s, {report['model_s']:.1f} s of them passes of the model",
        f"beside the model {100 * report['beside_share']:.1f} %: {report['beside_ms_per_item']:.1f} ms an item (scores and intervals "
        f"{report['scoring_ms_per_item']:.2f} ms), the model {report['model_ms_per_item']:.1f} ms",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
