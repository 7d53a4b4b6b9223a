"""Builds from Python: `pipeline.build` and `pipeline.plan`, for scripts and notebooks that need no shell.

Here: the calls, their typed results, and keeping out of the way of the caller's event loop and signal handlers. Not here: building (driver).
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from interlock.errors import InterlockError, UsageError
from interlock.voice import plain as printable
from pipeline import recipe as recipes
from pipeline.driver import session as sessions
from pipeline.driver.forecast import Forecast, forecast
from pipeline.driver.graph import Node, build_graph
from pipeline.driver.plan import Options, Result, View
from pipeline.launchers import default_launcher

if TYPE_CHECKING:
    from interlock.opening import Artifact

T = TypeVar("T")
# How often a caller that waits for its build looks whether it was interrupted.
PATIENCE_S = 0.2


@dataclass(frozen=True)
class Output:
    """A directory that the build placed, and the digest of the artifact in it."""

    path: Path
    digest: str

    def open(self) -> Artifact:
        """Its contract and files, as `interlock.open` gives them. Raises ContractError."""
        from interlock.opening import open_artifact

        return open_artifact(self.path)


@dataclass(frozen=True)
class Step:
    """How one step ended. `state` is made, kept, rejected, failed, skipped or waiting; `why` names what made it run; times in seconds."""

    name: str
    stage: str
    state: str
    digest: str | None
    why: tuple[str, ...]
    wall_s: float | None
    peak_rss_bytes: int | None
    log: Path | None
    error: InterlockError | None


@dataclass(frozen=True)
class Report:
    """How a build ended: `outputs` by name (`deployed`), `steps` by name (with its cell in a matrix), in order. `error` is the first failure."""

    recipe: str
    outputs: dict[str, Output]
    steps: dict[str, Step]
    error: InterlockError | None
    wall_s: float

    def __repr__(self) -> str:
        ended = "done" if self.error is None else f"{self.error.title}: {self.error.problem}"
        made = sum(step.state == "made" for step in self.steps.values())
        return printable(f"<build of {self.recipe}: {ended}; {made} of {len(self.steps)} steps made, {', '.join(self.outputs) or 'no output'}>")


@dataclass(frozen=True)
class Planned:
    """One step as a build would treat it now: `state` is kept, run, waits, rejected or blocked. Time and size by history, None without one."""

    name: str
    state: str
    why: tuple[str, ...]
    wall_s: float | None
    bytes: int | None


class Lines:
    """Shows a line for each step that starts or ends, on stdout: what notebooks and interactive interpreters get."""

    def __init__(self, name: Callable[[Node], str]) -> None:
        self._name = name

    def step(self, node: Node, state: str, detail: str = "") -> None:
        if state != "waiting":
            self.say(f"{self._name(node)}: {state}{f' ({detail})' if detail else ''}")

    def line(self, node: Node, text: str) -> None: ...

    def figures(self, node: Node, figures: dict[str, Any]) -> None: ...

    def started(self, node: Node, pid: int) -> None: ...

    def say(self, text: str) -> None:
        sys.stdout.write(f"{printable(text)}\n")
        sys.stdout.flush()

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")


def build(
    recipe: str | Path,
    *,
    set: Mapping[str, Any] | None = None,
    jobs: int = 1,
    only: str | None = None,
    first: str | None = None,
    force: bool = False,
    keep_going: bool = False,
    launcher: str | None = None,
    view: View | None = None,
    check: bool = True,
) -> Report:
    """Make what a recipe names, and nothing that is there already: `interlock build`, in the current folder's project.

        >>> import pipeline
        >>> report = pipeline.build("smollm2", set={"compress.method": "int8"})
        >>> report.outputs["deployed"].open().contract.capabilities.code_mode
        True

    set: values of the recipe by dotted name; only, first, force: as `--only`, `--from` and `--force`; view: who is told what happens, by default
    lines on stdout in an interactive session and nobody elsewhere; launcher: as `--launcher`. Works inside a running event loop and from any thread.

    Raises the first failure as its InterlockError, or with check=False returns it in the report. Ctrl-C ends the stages, keeps what is finished, and
    raises KeyboardInterrupt. A bad recipe or option raises in either case.
    """
    if only is not None and first is not None:
        raise UsageError("`only` and `first` exclude each other", remedy="give one of them")
    if isinstance(jobs, bool) or not isinstance(jobs, int) or not 1 <= jobs <= 256:
        raise UsageError(f"jobs is {jobs!r}", remedy="give a number of stages between 1 and 256")
    made = _session(recipe, set, sessions.Selection(only, first, force), Options(jobs, keep_going, launcher or default_launcher()))
    chosen = view or (Lines(made.name) if hasattr(sys, "ps1") else _silent())
    ended = made.up_to_date() or _beside(lambda: made.build(chosen), made.interrupt)
    if ended.interrupted:
        raise KeyboardInterrupt
    if check and ended.error is not None:
        raise ended.error
    outputs = {path.name: Output(path, digest) for path, digest in ended.placed.items()}
    steps = {made.name(result.node): _step(made.name(result.node), result) for result in ended.results}
    return Report(ended.recipe, outputs, steps, ended.error, ended.wall_s)


def plan(
    recipe: str | Path,
    *,
    set: Mapping[str, Any] | None = None,
    only: str | None = None,
    first: str | None = None,
    force: bool = False,
    launcher: str | None = None,
) -> list[Planned]:
    """What `build` would do with the same arguments, and why, without doing it. Raises InterlockError for a bad recipe or option."""
    looked = _session(recipe, set, sessions.Selection(only, first, force), Options(launcher=launcher or default_launcher()))
    looked.look()
    return [_planned(item) for item in forecast(looked)]


def _session(recipe: str | Path, set_: Mapping[str, Any] | None, selection: sessions.Selection, options: Options) -> sessions.Session:
    loaded = recipes.load(str(recipe), [f"{name}={_toml(name, value)}" for name, value in (set_ or {}).items()])
    return sessions.Session(build_graph(loaded, options.launcher), sessions.Project(), selection, options)


def _silent() -> View:
    from pipeline.reports.live import Silent

    return Silent()


def _beside(work: Callable[[], T], interrupt: Callable[[], None]) -> T:
    """`work` in a thread of its own: the caller's thread may run an event loop already, and its signal handlers stay its own."""
    ended: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            ended.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="interlock build")
    thread.start()
    told = False
    while thread.is_alive():
        interrupted = _interrupted_while_waiting(thread)
        if interrupted or (not told and _is_cancelled()):
            told = True
            interrupt()
    if failed:
        raise failed[0]
    return ended[0]


def _interrupted_while_waiting(thread: threading.Thread) -> bool:
    try:
        thread.join(PATIENCE_S)
    except KeyboardInterrupt:
        return True
    return False


def _is_cancelled() -> bool:
    """Whether the task that waits for the build was cancelled: what asyncio.run makes of the first Ctrl-C, seen only once the loop runs again."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return False
    return bool(getattr(task, "cancelling", int)())  # Task.cancelling came with 3.11


def _step(name: str, result: Result) -> Step:
    return Step(
        name,
        result.node.stage.name,
        result.state,
        result.digest,
        tuple(result.why),
        result.wall_s,
        result.peak_rss_bytes,
        result.log,
        result.error,
    )


def _planned(item: Forecast) -> Planned:
    return Planned(item.title, item.state, tuple(item.why), item.wall_s, item.bytes)


def _toml(name: str, value: Any) -> str:
    """A Python value as a recipe's: what `--set` reads. Raises UsageError for what TOML cannot say."""
    return "".join(_words(name, value))


def _words(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield str(value)  # nan, inf, -inf
    elif isinstance(value, bool | int | float | str):
        yield json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")  # JSON's words are TOML's, but for DEL
    elif isinstance(value, list | tuple):
        yield f"[{', '.join(_toml(name, item) for item in value)}]"
    elif isinstance(value, Mapping) and all(isinstance(key, str) and re.fullmatch(r"[A-Za-z0-9_-]+", key) for key in value):
        yield f"{{{', '.join(f'{key} = {_toml(name, item)}' for key, item in value.items())}}}"
    else:
        raise UsageError(f"set[{name!r}] is {value!r}, which no recipe can say", remedy="give texts, numbers, booleans, lists and tables of them")
