"""What the environments of one tree measure: the probe, and the recipe `random` with its gates.

Here: making the environments, the two processes, their answers as numbers. Not here: judging the numbers (verdict.py).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock.environments import Environment, environments
from interlock.errors import StageFailed
from interlock.voice import Voice
from pipeline.compat.cases import CASES
from pipeline.compat.results import Column, column_from
from pipeline.driver.children import surroundings
from pipeline.updating.proposal import run_in

CONVERTER = "coremltools"
RECIPE = "random"


@dataclass(frozen=True)
class Toy:
    """The recipe `random`: PSNR in dB by function and output (`prefill_64 logits`), or what stopped it."""

    db: dict[str, float] = field(default_factory=dict)
    stopped: str = ""


@dataclass(frozen=True)
class Trial:
    """One tree: the probe where an environment converts, the toy, and seconds by what took them."""

    probe: Column | None
    toy: Toy
    seconds: dict[str, float]


def tried(tree: Path, label: str, folder: Path, cases: Sequence[str], voice: Voice) -> Trial:
    """Measure `tree`; records of builds go to the existing directory `folder`. Raises StageFailed where an environment cannot be made."""
    envs = environments(tree)
    with voice.task(f"{label}: make the environments"):
        run_in(tree, [str(tree / "ci" / "sync"), *envs], f"the {label} environments could not be made", "see the reason above")
    seconds = {}
    converting = [env for env in envs.values() if CONVERTER in env.locked()]
    column = None
    if converting:
        started = time.monotonic()
        with voice.task(f"{label}: convert the cases of the probe", len(cases or CASES), "cases") as task:
            column = probed(converting[0], folder, cases, task.advance)
        seconds["probe"] = time.monotonic() - started
    started = time.monotonic()
    with voice.task(f"{label}: build the recipe `{RECIPE}`"):
        toy = built(envs["train"], folder)
    seconds["toy"] = time.monotonic() - started
    return Trial(column, toy, {name: round(value, 1) for name, value in seconds.items()})


def probed(env: Environment, folder: Path, cases: Sequence[str], heard: Callable[[], object]) -> Column:
    """The column that the interpreter of `env` measures. `heard` is called for each case."""
    command = [str(env.python), "-I", "-m", "pipeline.compat", "--json", *cases]
    said = []
    with subprocess.Popen(
        command, cwd=folder, env=_surroundings(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr and process.stdout
        for line in process.stderr:
            said.append(line.rstrip())
            heard()
        answer = process.stdout.read()
    if process.returncode:
        last = "\n  ".join(said[-8:])
        raise StageFailed(f"the probe ended with code {process.returncode}:\n  {last}", remedy="the packages of the environment do not load together")
    return column_from(json.loads(answer))


def built(env: Environment, folder: Path) -> Toy:
    """Build the recipe `random` with the project that `env` belongs to."""
    command = [str(env.python), "-I", "-m", "pipeline.cli", "build", RECIPE, "--launcher", "uv", "--json"]
    ended = subprocess.run(command, cwd=folder, env=_surroundings(folder), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if ended.returncode:
        said = [line for line in ended.stderr.splitlines() if line.strip()]
        return Toy(stopped=f"exit code {ended.returncode}: {' / '.join(said[-4:])[:600]}")
    (place,) = json.loads(ended.stdout)["outputs"]
    exported, package = (json.loads((folder / place / name).read_bytes()) for name in ("model_contract.json", "package_contract.json"))
    files = {f"exported {length}": shape["psnr_db"] for length, shape in exported["shape_validation"]["results"].items()}
    return Toy({**files, **_evidence(package)})


def _evidence(package: dict[str, Any]) -> dict[str, float]:
    least: dict[str, float] = {}
    for found in package["gate"]["evidence"]:
        name = f"{found['function']} {found['output']}"
        least[name] = min(least.get(name, found["psnr_db"]), found["psnr_db"])
    return least


def _surroundings(folder: Path) -> dict[str, str]:
    """As stages are started, with the store of this trial."""
    return {**surroundings(), "INTERLOCK_HOME": str(folder / ".interlock"), "OMP_NUM_THREADS": "1"}
