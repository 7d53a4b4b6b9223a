"""What the recipe `toy` learns, seed by seed: every way of answering on the same held-out rows, the halt head, what a span saves.

Here: building and the table. Run: `envs/train/.venv/bin/python -m benchmarks.latent_toy --seeds 0 1 2` (six minutes of one core for each: the student
and its two controls; what is in the store is not trained again). Exit 1 where a seed misses one of the bounds that are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import entry
from interlock import command
from interlock.errors import StageFailed

DEEPEST = "6"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.latent_toy`."""
    given = command.words(argv)
    parser = command.parser("benchmarks.latent_toy", "what the recipe toy learns, seed by seed", "python -m benchmarks.latent_toy --seeds 0 1 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of data and training (default 0 1 2)")
    missed: list[str] = []
    code = entry.run(parser, given, _measure, lambda report: [*_table(report), *_judged(report, missed)])
    return code or int(bool(missed))


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    return {"seeds": {str(seed): _trained(seed) for seed in options.seeds}}


def _trained(seed: int) -> dict[str, Any]:
    """The contract's account of a training, and its processor-free seconds."""
    from pipeline.driver.session import Project

    sets = [f"train.seed={seed}", f"data.seed={seed}", 'train.latent.controls=["pause", "direct"]']
    words = [sys.executable, "-I", "-m", "pipeline.here", "build", "toy", "--only", "train", "--json", *(w for one in sets for w in ("--set", one))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"`interlock build toy` ended with {done.returncode}: {done.stderr[-500:]}", remedy="build it by hand")
    digest = next(step["digest"] for step in json.loads(done.stdout)["steps"] if step["step"] == "train")
    contract = json.loads((Project().store.object_path(digest) / "checkpoint_contract.json").read_bytes())
    training: dict[str, Any] = contract["training"]
    return training


def _table(report: dict[str, Any]) -> list[str]:
    lines = []
    for seed, found in report["seeds"].items():
        depths = sorted(found["accuracy"]["text"], key=int)
        lines += ["", f"seed {seed}: {found['steps']} steps, {found['asked']} held-out rows; share of right answers by number of steps"]
        lines.append(f"{'':22}" + "".join(f"{depth:>7}" for depth in depths) + f"{'tokens':>9}{'passes':>9}")
        for way, shares in found["accuracy"].items():
            lines.append(
                f"{way:22}" + "".join(f"{shares[depth]:>7.3f}" for depth in depths) + f"{found['tokens'][way]:>9.2f}{found['passes'][way]:>9.2f}"
            )
        halt, latent = found["halt"]["evidence"], found["latent"]
        lines.append("halt head: " + ", ".join(f"{name} {halt[name]:g}" for name in ("auc", "brier", "ece", "exact", "slots", "steps")))
        lines.append("slots: " + ", ".join(f"{name} {value:.3f}" for name, value in latent["monitors"].items()))
        lines.append(f"spans help: {'shown' if latent['helps'] else 'not shown'}")
    return lines


def _judged(report: dict[str, Any], missed: list[str]) -> list[str]:
    """Every bound, and the worst seed for it."""
    found = list(report["seeds"].values())

    def deepest(way: str) -> list[float]:
        return [one["accuracy"][way][DEEPEST] for one in found]

    saved = [1 - one["tokens"]["spans, self-halted"] / one["tokens"]["text"] for one in found]
    halts = [one["halt"]["evidence"] for one in found]
    bounds = [
        ("spans at the greatest depth", min(deepest("spans, self-halted")), ">=", 0.99),
        ("text at the greatest depth", min(deepest("text")), ">=", 0.99),
        ("control direct", max(deepest("control direct")), "<=", 0.25),
        ("control pause", max(deepest("control pause")), "<=", 0.25),
        *((f"spans, {kind}", max(deepest(f"spans, {kind}")), "<=", 0.25) for kind in ("zero", "noise", "shuffle")),
        ("halt AUC", min(one["auc"] for one in halts), ">=", 0.99),
        ("slots beyond steps, mean", max(abs(one["slots"] - one["steps"]) for one in halts), "<=", 0.05),
        ("tokens saved against text", min(saved), ">=", 0.40),
    ]
    lines = ["", f"{'worst of all seeds':32}{'figure':>9}   bound"]
    for name, value, sign, bound in bounds:
        held = value >= bound if sign == ">=" else value <= bound
        if not held:
            missed.append(name)
        lines.append(f"{name:32}{value:>9.3f}   {sign} {bound:g}{'' if held else '   MISSED'}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
