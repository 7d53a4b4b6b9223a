"""Verb `bench`: how fast a directory's model reads and decodes here, and what it holds, by backend and form of weights.

Here: options, one process for each configuration, the table. Not here: the measurement (runtime/bench.py).
A process of its own: memory and start are those of that configuration alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from interlock.command import Session, emit
from interlock.environments import environment
from interlock.errors import StageFailed
from interlock.voice import human
from pipeline.launchers import current

COLUMNS = ("backend", "weights", "test", "tok/s", "least", "greatest", "cpu ms/tok", "load s", "first ms", "peak")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="deployed directory or checkpoint directory")
    parser.add_argument("--backend", nargs="+", choices=["eager", "torchscript", "reference", "coreml"], default=["eager"],
                        help="what runs the model, one after another (default: eager)")  # fmt: skip
    parser.add_argument("--weights", nargs="+", choices=["fp32", "bf16", "int8", "packed"], default=["fp32"],
                        help="how eager holds them, one after another (default: fp32)")  # fmt: skip
    parser.add_argument("--prompts", type=int, nargs="*", default=[512], metavar="T", help="tokens in the prompts that are read (default: 512)")
    parser.add_argument("--answers", type=int, nargs="*", default=[128], metavar="T", help="tokens that are decoded one by one (default: 128)")
    parser.add_argument("--depth", type=int, default=0, metavar="T", help="positions before the first decoded token (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of every test; medians are shown (default %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all cores)")


def run(args: argparse.Namespace, session: Session) -> int:
    pairs = [(name, weights) for name in args.backend for weights in (args.weights if name == "eager" else ["fp32"])]
    if len(pairs) == 1:
        reports = [_measure(args, *pairs[0])]
    else:
        with session.voice.task("bench", total=len(pairs), unit="configurations") as task:
            reports = []
            for name, weights in pairs:
                reports.append(_child(args, name, weights))
                task.advance(1)
    load = os.getloadavg()[0]
    if args.json:
        emit(reports[0] if len(reports) == 1 else {"configurations": reports})
        return 0
    print("\n".join(table(reports)))
    session.voice.step(f"{reports[0]['threads']} thread(s), {os.cpu_count()} core(s), load {load:.1f}: what else runs here is in the figures")
    for note in sorted({note for report in reports for note in report["notes"]}):
        session.voice.step(note)
    return 0


def table(reports: list[dict[str, Any]]) -> list[str]:
    """The reports as lines of text."""
    lines = [f"{COLUMNS[0]:12} {COLUMNS[1]:8} {COLUMNS[2]:8}" + "".join(f"{name:>12}" for name in COLUMNS[3:])]
    for report in reports:
        for rate in report["rates"]:
            speeds = [f"{rate[name]:.1f}" for name in ("tokens_per_s", "least", "greatest")]
            rest = [f"{rate['cpu_ms_per_token']:.2f}", f"{report['load_s']:.2f}", f"{report['first_ms']:.0f}", human(report["peak_bytes"], "B")]
            lines.append(f"{report['backend']:12} {report['weights']:8} {rate['test']:8}" + "".join(f"{value:>12}" for value in [*speeds, *rest]))
    return lines


def _measure(args: argparse.Namespace, name: Any, weights: Any) -> dict[str, Any]:
    """One configuration, in this process."""
    from runtime.bench import Lengths, measure
    from runtime.kernels import threads
    from runtime.load import load

    if args.threads:
        threads.use(args.threads)
    started = time.perf_counter()
    loaded = load(args.model, name, weights=weights)
    load_s = time.perf_counter() - started
    lengths = Lengths(tuple(args.prompts), tuple(args.answers), args.depth, args.rounds)
    found = measure(loaded.backend, loaded.info.vocab_size, lengths)
    notes = list(getattr(loaded.backend, "notes", ()))
    return {"backend": name, "weights": weights, "threads": threads.count(), "load_s": load_s, "notes": notes, **found}


def _child(args: argparse.Namespace, name: str, weights: str) -> dict[str, Any]:
    lengths = [word for option in ("prompts", "answers") for word in (f"--{option}", *map(str, getattr(args, option)))]
    words = ["bench", str(args.model), "--backend", name, "--weights", weights, *lengths, "--depth", str(args.depth), "--rounds", str(args.rounds)]
    words += ["--threads", str(args.threads)] if args.threads else []
    command = current.command(environment("train"), [*words, "--json"])
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise StageFailed(f"backend `{name}` with {weights} weights was not measured: exit code {done.returncode}", remedy="see the message above")
    report: dict[str, Any] = json.loads(done.stdout)
    return report
