"""Entry: what a first token costs from the start of the process, by form of weights: processor seconds by phase, and the most memory.

Here: options, the two kinds of children, the table. Not here: what a phase does (runtime/load.py and what it opens).
A child that runs the verb gives the sum and the memory; another does the same step by step and gives the phases. Least of the rounds: what an idle
core would need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import entry
from interlock import command
from interlock.errors import StageFailed

FORMS = ("fp32", "bf16", "int8", "packed")
PHASES = ("interpreter", "imports", "reading", "preparing", "tokenizer", "template", "prompt")
# MB; beside: the peak without weights and cache.
SIZES = ("peak", "weights", "cache", "beside")
# With the template of SmolLM2 128 tokens.
TEXT = (
    "Libraries can vary widely in size and may be organised and maintained by a public body such as a government, an institution such as a school or "
    "museum, a corporation, or a private individual. In addition to providing materials, libraries also provide the services of librarians who are "
    "trained experts in finding, selecting, circulating and organising information while interpreting information needs and navigating large "
    "amounts of information with a variety of resources. The area of study is known as library science, and it is taught."
)

# What `interlock infer` does, with a mark after each phase. The two functions of runtime.load that are wrapped divide its time.
STEPS = """
import json, resource, sys, time
marks = {"interpreter": time.process_time()}
last = time.process_time()
def mark(name):
    global last
    now = time.process_time()
    marks[name] = marks.get(name, 0) + now - last
    last = now
directory, weights, text = sys.argv[1:]
import pipeline.cli, runtime.infer, runtime.load, runtime.orchestration.inference, runtime.backends.eager, runtime.backends.mapped
from pathlib import Path
from runtime.kernels import threads
from runtime.orchestration.prompts import asked, encode
threads.use(1)
mark("imports")
prove, eager = runtime.load._prove, runtime.load._eager
def proved(*given):
    prove(*given)
    mark("reading")
def made(*given):
    backend = eager(*given)
    mark("preparing")
    return backend
runtime.load._prove, runtime.load._eager = proved, made
loaded = runtime.load.load(Path(directory), "eager", weights=weights)
mark("tokenizer")
ids = encode(loaded.tokenizer, asked(text, raw=False))
mark("template")
children = resource.getrusage(resource.RUSAGE_CHILDREN)
marks["template"] += children.ru_utime + children.ru_stime
cache = loaded.backend.new_cache()
loaded.backend.prefill(ids, cache)
mark("prompt")
print(json.dumps({"phases": marks, "tokens": len(ids), "weights_bytes": loaded.backend.weight_bytes, "cache_bytes": cache.size_bytes}))
"""


def main(argv: Sequence[str] | None = None) -> int:
    given = command.words(argv)
    summary = "processor seconds and memory from the start of a process to its first token, by form of weights"
    parser = command.parser("benchmarks.start", summary, "python -m benchmarks.start models/student/deployed --rounds 3")
    parser.add_argument("model", type=Path, help="deployed directory or checkpoint")
    parser.add_argument("--weights", nargs="+", choices=FORMS, default=list(FORMS), help="forms (all)")
    parser.add_argument("--rounds", type=int, default=3, help="of each form, in turns (%(default)s)")
    return entry.run(parser, given, lambda options: measure(options.model, options.weights, options.rounds), table)


def measure(model: Path, forms: Sequence[str], rounds: int) -> dict[str, Any]:
    """Of each form the round that took the least."""
    wholes: dict[str, list[tuple[float, int]]] = {form: [] for form in forms}
    parts: dict[str, list[dict[str, Any]]] = {form: [] for form in forms}
    for _ in range(rounds):
        for form in forms:
            verb = [
                "-m",
                "pipeline.cli",
                "infer",
                str(model),
                "--prompt",
                TEXT,
                "--max-new-tokens",
                "1",
                "--threads",
                "1",
                "--weights",
                form,
                "--json",
            ]
            _, seconds, peak = _child(verb)
            wholes[form].append((seconds, peak))
            parts[form].append(json.loads(_child(["-c", STEPS, str(model), form, TEXT])[0]))
    found = {}
    for form in forms:
        best = min(parts[form], key=lambda part: float(sum(part["phases"].values())))
        held = best["weights_bytes"] + best["cache_bytes"]
        found[form] = best | {
            "cpu_s": min(seconds for seconds, _ in wholes[form]),
            "peak_bytes": max(peak for _, peak in wholes[form]),
            "beside_bytes": max(peak for _, peak in wholes[form]) - held,
        }
    return {"model": str(model), "rounds": rounds, "load": round(os.getloadavg()[0], 1), "forms": found}


def _child(words: Sequence[str]) -> tuple[str, float, int]:
    """What it prints, its processor seconds with those of its own children, and the most memory that one of them had, in bytes."""
    child = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise StageFailed(f"a child ended with {child.returncode}", remedy="run `interlock infer` with the same model and weights")
    return said, used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines of text."""
    lines = [
        f"{report['model']}: least of {report['rounds']} rounds, load {report['load']}; processor seconds, MB",
        "",
        f"{'weights':8} {'prompt':>7} {'sum':>6}"
        + "".join(f"{name:>12}" for name in PHASES)
        + f"{'peak':>8} {'weights':>8} {'cache':>6} {'beside':>7}",
    ]
    for form, found in report["forms"].items():
        phases = "".join(f"{found['phases'][name]:>12.2f}" for name in PHASES)
        sizes = [found[name] / 1e6 for name in ("peak_bytes", "weights_bytes", "cache_bytes", "beside_bytes")]
        lines.append(
            f"{form:8} {found['tokens']:>7} {found['cpu_s']:>6.2f}{phases}{sizes[0]:>8.0f} {sizes[1]:>8.0f} {sizes[2]:>6.0f} {sizes[3]:>7.0f}"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
