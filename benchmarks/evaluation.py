"""What an evaluation is worth and what it costs: planted regressions, false alarms, shards and kills, time outside the model.

Here: options, the measurements, the table. Not here: what is planted (tests/fakes/planted_regressions.py), scores beside other libraries
(scorers.py).
Run: `envs/train/.venv/bin/python -m benchmarks.evaluation models/student/deployed`; without a model the time is left out.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks.entry import run as run_entry
from interlock import command
from interlock.environments import ROOT

if TYPE_CHECKING:
    import argparse

ITEMS, RUNS, KILLS, SHARDS = 1000, 200, 20, 4
# Answers of the model itself that are timed beside.
ASKED = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.evaluation`."""
    told = "regressions that gates catch, false alarms, and what asking costs beside the model"
    parser = command.parser("python -m benchmarks.evaluation", told, "python -m benchmarks.evaluation models/student/deployed")
    parser.add_argument("model", type=Path, nargs="?", help="a deployed directory with a chat template, for the time outside the model")
    return run_entry(parser, command.words(argv), _measure, table)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "tests"))
    with tempfile.TemporaryDirectory(prefix="evaluation-") as scratch:
        report = {**_gates(), **_kills(Path(scratch)), "shards": _shards(Path(scratch))}
        return {**report, "time": _time(options.model, Path(scratch))} if options.model else report


def _gates() -> dict[str, Any]:
    from fakes.evaluations import TASKS, evaluated, judged
    from fakes.planted_regressions import LATENT, PLANTED

    from eval.comparison import compare

    caught = [
        judged(suite, evaluated(suite, spoil), LATENT if suite == "latent" else None)[gate].verdict == "fail" for suite, _, spoil, gate in PLANTED
    ]
    perfect = [judged(suite, evaluated(suite), LATENT if suite == "latent" else None).values() for suite in TASKS]
    honest = [judged("smoke", evaluated("smoke", seed=seed, noise=0.01))["spoke"].verdict for seed in range(RUNS)]
    pairs = ((evaluated("smoke", seed=2 * seed, noise=0.1), evaluated("smoke", seed=2 * seed + 1, noise=0.1)) for seed in range(RUNS))
    worse = sum(any(one.verdict == "worse" for one in compare(now, before, 0.95, 0.05)) for now, before in pairs)
    return {
        "planted": len(PLANTED),
        "caught": sum(caught),
        "perfect": len(perfect),
        "perfect_stopped": sum(any(gate.verdict != "pass" for gate in gates) for gates in perfect),
        "honest": {verdict: honest.count(verdict) for verdict in ("pass", "inconclusive", "fail")},
        "equal_found_worse": worse,
    }


def _kills(scratch: Path) -> dict[str, Any]:
    from fakes import eval_work
    from fakes.forks import exit_code

    from eval.running import answers_of
    from interlock import journal

    kept, log, chance = scratch / "kept.jsonl", scratch / "log", random.Random(4)  # noqa: S311 - moments, nothing secret
    killed = 0
    while killed < KILLS:  # one that came too late is no kill
        killed += exit_code(eval_work.ask_until_killed, kept, log, ITEMS, chance.uniform(0.02, 0.1)) == -9
    exit_code(eval_work.ask_until_killed, kept, log, ITEMS, 600.0)
    finished = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("kept")]
    with journal.opened(kept) as opened:
        found = answers_of(eval_work.items(ITEMS), opened)
    lost = sum(found[item.id] != eval_work.oracle(item) for item in eval_work.items(ITEMS))
    return {"kills": killed, "lost": lost, "repeated": len(finished) - len(set(finished))}


def _shards(scratch: Path) -> dict[str, Any]:
    """Shards of the same items, asked in another order each, against one run: the bytes of `results.jsonl`."""
    from fakes.eval_work import RUN, items, oracle

    from eval.items import Item, shard_of
    from eval.running import answers_of, ask_here, taken_over
    from eval.scoring.table import row
    from eval.shipped import read_suite
    from interlock import journal
    from interlock.voice import SilentVoice

    suite, asked = read_suite("smoke"), items(ITEMS)

    def results(file: Path, given: list[Item], shards: Sequence[Path] = ()) -> bytes:
        with journal.opened(file) as kept, SilentVoice().task("") as task:
            taken_over(((str(one), record) for one in shards for record in journal.records(one)), RUN, kept)
            ask_here([item for item in given if item.digest not in kept], oracle, RUN, kept, task)
            found = answers_of(given, kept)
        return b"".join(json.dumps(row(suite, item, found[item.id])).encode() + b"\n" for item in given)

    whole = results(scratch / "whole", asked)
    parts = [[item for item in asked if shard_of(item.id, SHARDS) == number][::-1] for number in range(SHARDS)]
    for number, part in enumerate(parts):
        results(scratch / f"shard-{number}", part)
    merged = results(scratch / "merged", asked, [scratch / f"shard-{number}" for number in reversed(range(SHARDS))])
    return {"items": [len(part) for part in parts], "same_bytes": merged == whole}


def _time(model: Path, scratch: Path) -> dict[str, Any]:
    """All of an evaluation but the model, over 1,000 questions: prompts, journal, scores, intervals, page. The model's part is one real answer, given
    again and again; what such an answer takes is timed beside."""
    from eval.asking import Model, Settings, text
    from eval.items import Item
    from eval.runners import deployment
    from eval.running import answers_of, ask_here
    from eval.scoring.table import row
    from eval.shipped import read_suite
    from eval.statistics import gates
    from eval.summary import figures_of, summary
    from interlock import journal
    from interlock.voice import SilentVoice
    from pipeline.datasets import questions
    from pipeline.datasets.items import items_of
    from pipeline.datasets.tasks import Order

    suite = read_suite("smoke")
    asked: list[Item] = items_of(questions.TASK.make(Order(0, "test", ITEMS, {}, frozenset())))
    ask = text.opened(Settings(asks="text", max_new_tokens=suite.max_new_tokens, model=Model(directory=model, backend="reference")))
    real, spent, made = deployment.generate, [], []

    def timed(*words: Any) -> Any:
        started = time.perf_counter()
        made.append(real(*words))
        spent.append(time.perf_counter() - started)
        return made[-1]

    with mock.patch.object(deployment, "generate", timed):
        for item in asked[: ASKED + 1]:  # the first one warms up
            ask(item)
    model_s = statistics.median(spent[1:])
    with mock.patch.object(deployment, "generate", lambda *_: made[-1]), journal.opened(scratch / "timed") as kept, SilentVoice().task("") as task:
        started = time.perf_counter()
        ask_here(asked, ask, "7" * 64, kept, task)
        asking_s = time.perf_counter() - started
        found = answers_of(asked, kept)
    rows = [row(suite, item, found[item.id]) for item in asked]
    figures = figures_of(suite, rows, 0.95)
    gates.judge(figures, suite.gates, 0.95, suite.least)
    json.dumps(summary(suite, rows, figures))
    beside_s = time.perf_counter() - started
    return {"items": len(asked), "model_s": model_s, "asking_s": asking_s / len(asked), "beside_s": beside_s / len(asked),
            "share": beside_s / (beside_s + model_s * len(asked))}  # fmt: skip


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    honest, shards = report["honest"], report["shards"]
    lines = [
        f"planted regressions that the named gate fails      {report['caught']} of {report['planted']}",
        f"perfect students that a gate stops                 {report['perfect_stopped']} of {report['perfect']}",
        f"runs of a student that misses 1 % of 60 items      {', '.join(f'{count} {verdict}' for verdict, count in honest.items())}",
        f"pairs of equal students of which one is found worse {report['equal_found_worse']} of {RUNS} (at most a twentieth is stated)",
        f"{report['kills']} kills over {ITEMS} items                         {report['lost']} answers lost, {report['repeated']} kept twice",
        f"{SHARDS} shards of {'+'.join(map(str, shards['items']))} items              "
        f"{'the same bytes as one run' if shards['same_bytes'] else 'OTHER BYTES than one run'}",
    ]
    if spent := report.get("time"):
        beside, asking = 1000 * spent["beside_s"], 1000 * spent["asking_s"]
        told = f"{beside:.1f} ms an item ({asking:.1f} of them to ask), a median answer {spent['model_s']:.2f} s: {spent['share']:.1%} of the time"
        lines.append(f"outside the model, {spent['items']} items               {told}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
