"""Run a chain of stages, each in its own interpreter, and only those whose key has changed.

Here: the plan's execution, the record of what each output was made from, reuse. Not here: which stages a command needs (pipeline/verbs),
the work (pipeline/stages), entering an environment (pipeline/launchers).
The record of an output stands beside it, in `.interlock/<name>.json`; an output is reused when its key's preimage is the recorded one and its
files are the recorded ones, by size, times and inode, or else by digest.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock import environments, errors, fs
from interlock.contracts import io
from interlock.contracts.base import Kind
from interlock.voice import Voice
from pipeline.driver import keys
from pipeline.driver.stage import Report
from pipeline.launchers import uv


@dataclass(frozen=True)
class Step:
    """One stage of a chain. `inputs` gives the digests of its inputs when it is its turn; `argv` are the stage verb's words, `out` among them."""

    stage: str
    module: str
    environment: str
    produces: Kind
    argv: tuple[str, ...]
    out: Path
    inputs: Callable[[], dict[str, str]]


def run(steps: list[Step], voice: Voice, *, force: bool = False) -> list[Report]:
    """Run `steps` in order; stop at the first that fails, with its exit code and its own message. Raises ChildFailed."""
    reports = []
    for number, step in enumerate(steps, 1):
        title = f"[{number}/{len(steps)}] {step.stage}"
        env = environments.environment(step.environment)
        preimage = keys.preimage(step.module, env, {"argv": _relative(step)}, step.inputs())
        record = _Record.of(step.out)
        if not force and (report := record.reusable(step, preimage, voice)):
            voice.step(f"{title}: up to date ({step.out})")
        else:
            voice.step(f"{title} in environment `{env.name}` → {step.out}")
            report = _launch(step, env)
            record.write(step, preimage, report)
        reports.append(report)
    return reports


class ChildFailed(errors.InterlockError):
    """A stage's process ended with an error that it has already told."""

    def __init__(self, stage: str, code: int) -> None:
        super().__init__(
            f"stage `{stage}` ended with code {code}", remedy="its own message stands above; what finished before it is kept and will be reused"
        )
        self.exit_code = code if code in (2, 3, 4, 5, 6, 130) else 5


def _relative(step: Step) -> list[str]:
    # A clone under another path, or another name for the output, is the same work.
    return [word for word in step.argv if not word.startswith("/") and word != str(step.out)]


def _launch(step: Step, env: environments.Environment) -> Report:
    uv.sync(env)
    started = time.monotonic()
    child = subprocess.run(uv.command(env, [step.stage, *step.argv, "--json"]), stdout=subprocess.PIPE, check=False)
    if child.returncode < 0:
        problem = f"stage `{step.stage}` was killed by signal {-child.returncode}"
        raise errors.StageFailed(problem, remedy="if the system ran out of memory, close other programs; then run the same command again")
    if child.returncode:
        raise ChildFailed(step.stage, child.returncode)
    said = json.loads(child.stdout)
    file, model = io.KINDS[step.produces]
    return Report(step.stage, step.out, io.read_contract(step.out / file, model), time.monotonic() - started, said["peak_rss_bytes"])


@dataclass(frozen=True)
class _Record:
    file: Path
    document: dict[str, Any]

    @staticmethod
    def of(out: Path) -> _Record:
        file = out.parent / ".interlock" / f"{out.name}.json"
        try:
            document = json.loads(file.read_bytes())
        except (OSError, ValueError):
            document = {}  # none yet, or torn: the stage runs again
        return _Record(file, document)

    def reusable(self, step: Step, preimage: dict[str, Any], voice: Voice) -> Report | None:
        """The earlier report where the output still is what this step would make."""
        if self.document.get("preimage") != preimage:
            return None
        file, model = io.KINDS[step.produces]
        try:
            contract = io.read_contract(step.out / file, model)
            if contract.digest != self.document["contract"]:
                return None
            if _stats(step.out) != self.document["stats"]:
                io.read_artifact(step.out, model)
                self.write(step, preimage, Report(step.stage, step.out, contract, self.document["wall_s"], self.document["peak_rss_bytes"]))
        except errors.ContractError as error:
            voice.warn(f"{step.out} is no longer what it was ({error.problem}); making it again")
            return None
        return Report(step.stage, step.out, contract, self.document["wall_s"], self.document["peak_rss_bytes"], reused=True)

    def write(self, step: Step, preimage: dict[str, Any], report: Report) -> None:
        document = {
            "preimage": preimage,
            "contract": report.contract.digest,
            "stats": _stats(step.out),
            "wall_s": report.wall_s,
            "peak_rss_bytes": report.peak_rss_bytes,
        }
        fs.save_file(self.file, json.dumps(document, indent=1, sort_keys=True).encode())


def _stats(directory: Path) -> dict[str, list[int]]:
    """What changes when a file does, without reading it."""
    found = {}
    for name in io.walk(directory):
        status = (directory / name).lstat()
        found[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return found


def contract_digest(directory: Path, kind: Kind) -> str:
    """The digest of the contract that stands in `directory`. Raises ContractError."""
    file, model = io.KINDS[kind]
    return io.read_contract(directory / file, model).digest
