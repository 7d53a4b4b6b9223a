"""Make what a recipe names: only what must be made, each key once among all builders, every result in the store before anything rests on it.

Here: deciding and running. Not here: keys and what is known (plan.py), a stage's process (children.py), the store, showing (reports/live.py).
A step is made when nothing is known under its key, or when its artifact is needed and is gone or damaged. An artifact is needed when an output
has to be placed or a step that runs takes it. Everything else is left where it is: a build without work reads no artifact.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock import errors
from interlock.environments import ROOT, Environment
from interlock.errors import InterlockError
from interlock.locks import Lock
from interlock.logs import Log
from interlock.producers import check_producer
from pipeline.driver import children, source_digest, why
from pipeline.driver.graph import Given, Graph, Node, Target
from pipeline.driver.matrix import figures
from pipeline.driver.outputs import Outputs
from pipeline.driver.plan import Options, Planner, Result, Step, View, keep, known_rejection
from pipeline.driver.request import Request
from pipeline.driver.store import Lease, Store, inode
from pipeline.launchers import Job

POLL_S = 0.05


class _Skipped(Exception):
    """A step that was not started because an earlier one failed."""


class Interrupted(Exception):
    """The user or the system asked the build to end; its children have."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number


@dataclass(frozen=True)
class Recall:
    """What a build asks about its steps: the preimage of the last build of the same recipe, and the command that makes the step again."""

    before: Callable[[Node], dict[str, Any] | None]
    again: Callable[[Node], str | None]


class Builder:
    """One build of one graph."""

    def __init__(self, planner: Planner, outputs: Outputs, view: View, options: Options, logs: Path, recall: Recall) -> None:
        self._planner, self._outputs, self._view, self._options = planner, outputs, view, options
        self._store: Store = planner.store
        self._logs, self._recall = logs, recall
        self._lease = Lease(self._store)
        self.results = {identity: Result(step.node) for identity, step in planner.steps.items()}
        self._making: dict[str, asyncio.Task[None]] = {}
        self._whole: set[str] = set()
        self.unplaced: list[InterlockError] = []
        self._signal: int | None = None
        self._stop: Callable[[int], object] | None = None
        self._running: set[int] = set()

    def run(self, graph: Graph) -> None:
        """Build every target. Failures are in `results`; Interrupted when a signal came. Raises StageFailed for a store that cannot be used."""
        for target in graph.targets:
            for out, node in target.placed.items():
                self._outputs.check(out, node.stage.produces)
        self._store.prepare()
        with self._lease:
            asyncio.run(self._run(graph))
        if self._signal is not None:
            raise Interrupted(self._signal)

    def interrupt(self, number: int) -> None:
        """Ask a build that runs in another thread to end, as that signal would; asked a second time it ends its stages at once."""
        if self._stop is None:
            self._signal = number
            return
        with contextlib.suppress(RuntimeError):  # it has just ended
            self._stop(number)

    async def _run(self, graph: Graph) -> None:
        self._slots = asyncio.Semaphore(self._options.jobs)
        self._locks = {identity: asyncio.Lock() for identity in self.results}
        self._stopping = False
        self._matrix = graph.is_matrix
        loop = asyncio.get_running_loop()
        work = asyncio.gather(*(self._reach(target) for target in graph.targets), return_exceptions=True)

        def stop(number: int) -> None:
            if self._signal is not None:
                for pid in self._running:
                    children.kill_group(pid)  # asked a second time: at once
            self._signal = self._signal or number
            work.cancel()

        self._stop = lambda number: loop.call_soon_threadsafe(stop, number)
        if self._signal is not None:
            work.cancel()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError, NotImplementedError, RuntimeError):  # not in the main thread: a notebook's own handler stays
                loop.add_signal_handler(number, stop, number)
        try:
            ended = await work
        except asyncio.CancelledError:
            for task in self._making.values():
                task.cancel()
            await asyncio.gather(*self._making.values(), return_exceptions=True)
            if self._signal is None:
                raise
            return
        for outcome in ended:
            if isinstance(outcome, BaseException) and not isinstance(outcome, InterlockError | _Skipped):
                raise outcome

    async def _reach(self, target: Target) -> None:
        # What --force, --from or --only name is made even where no output needs it.
        asked = [node for node in target.steps.values() if self._planner.steps[node.identity].fresh]
        places = [self._place(out, node, target) for out, node in target.placed.items()]
        await _all([*places, *(self._digest(node) for node in (*target.wanted, *asked))])

    async def _place(self, out: Path, node: Node, target: Target) -> None:
        digest = await self._digest(node)
        if target.judge is not None and target.waits(node):
            await self._digest(target.judge)
        if self._outputs.in_place(out, digest, paranoid=self._options.paranoid):
            return
        await self._bytes(node)
        digest = await self._digest(node)  # made again, it may have become another
        self._view.say(f"place {out}")
        try:
            await asyncio.to_thread(self._outputs.place, out, digest, self._lease)
        except InterlockError as error:
            self.unplaced.append(error)
            raise

    async def _digest(self, node: Node) -> str:
        """The digest of what `node` makes; made first, where nothing is known."""
        step = self._planner.steps[node.identity]
        result = self.results[node.identity]
        if step.digest is None or step.fresh:
            if node.identity not in self._making:
                self._making[node.identity] = asyncio.create_task(self._make(node))
            await asyncio.shield(self._making[node.identity])
        elif result.state == "waiting":
            keep(result, step)
            self._view.step(node, "kept")
        assert step.digest is not None
        return step.digest

    async def _bytes(self, source: Node | Given) -> Path:
        """The artifact directory of a step, whole, claimed for the length of this build; made again where it is gone or damaged."""
        if isinstance(source, Given):
            return source.path.absolute()
        digest = await self._digest(source)
        async with self._locks[source.identity]:
            for _ in range(2):
                path = self._lease.hold(digest)
                seen = inode(path) if path is not None else None
                if path is not None and (digest in self._whole or await asyncio.to_thread(self._store.sound, digest)):
                    self._whole.add(digest)
                    if await asyncio.to_thread(_admissible, path, source):
                        return path
                    self._view.say(f"`{source.title}` was made by another environment than is defined now: it is made again")
                elif path is not None and (kept := self._store.quarantine(path, "its bytes are not what its contract says", seen)):
                    self._view.warn(f"the stored {source.stage.produces} {digest[:16]} is damaged; it is made again (the damaged one is in {kept})")
                self._planner.steps[source.identity].fresh = True
                self._making[source.identity] = asyncio.create_task(self._make(source, again=True))
                await asyncio.shield(self._making[source.identity])
                digest = self._planner.steps[source.identity].digest or digest
        raise errors.StageFailed(
            f"what `{source.title}` makes does not stay whole in the store", remedy="check the disk; `interlock fsck` reads all of it"
        )

    async def _make(self, node: Node, *, again: bool = False) -> None:
        step, result = self._planner.steps[node.identity], self.results[node.identity]
        try:
            await self._made(node, step, result, again)
        except InterlockError as error:
            if result.error is None:
                result.state, result.error = ("rejected" if isinstance(error, errors.GateFailed) else "failed"), error
                self._view.step(node, result.state, error.problem)
            # In a matrix a refused candidate is a finding about its cell, not an accident.
            if not (self._options.keep_going or (self._matrix and result.state == "rejected")):
                self._stopping = True
            raise _Skipped from error
        except _Skipped:
            if result.state == "waiting":
                result.state = "skipped"
                self._view.step(node, "skipped")
            raise

    async def _made(self, node: Node, step: Step, result: Result, again: bool) -> None:
        nodes = [source for source in node.inputs.values() if isinstance(source, Node)]
        await _all(self._digest(source) for source in nodes)
        inputs: dict[str, str] | None = None
        paths: dict[str, Path] = {}
        # Once more where an input that had to be made again has become another: a key names what is read under it.
        while (known := self._planner.input_digests(node)) != inputs:
            assert known is not None
            inputs = known
            self._planner.settle(step, inputs)
            if step.status == "rejected":
                result.key = step.key
                raise known_rejection(step)
            if step.status == "known":
                keep(result, step)
                self._view.step(node, "kept")
                return
            paths = dict(zip(node.inputs, await _all(self._bytes(source) for source in node.inputs.values()), strict=True))
        async with self._slots:
            if self._stopping:
                raise _Skipped
            await self._once(node, step, result, paths, again)

    async def _once(self, node: Node, step: Step, result: Result, paths: dict[str, Path], again: bool) -> None:
        """Run the stage, unless another builder that held the key has just done it."""
        assert step.key is not None and step.preimage is not None
        result.key = step.key
        lock = self._store.lock(step.key)
        await self._acquire(node, lock)
        try:
            if await self._made_meanwhile(step, again):
                keep(result, step)
                if step.status == "rejected":
                    raise known_rejection(step)
                self._view.step(node, "kept", "made by another builder just now")
                return
            result.why = self._reasons(node, step, again)
            self._view.step(node, "running", "; ".join(result.why[:2]))
            self._planner.keep_details(step)
            await self._process(node, step, result, paths)
        finally:
            lock.release()

    async def _made_meanwhile(self, step: Step, again: bool) -> bool:
        """Whether another builder has settled this key since it was looked at; `step` then says what it found."""
        assert step.key is not None
        action = self._store.action(step.key)
        if action is None or (action == step.action and not again):
            return False
        if "rejected" in action:
            step.action, step.status, step.fresh = action, "rejected", False
            return not again
        digest = action["output"]["digest"]
        path = self._lease.hold(digest)
        if path is None or (again and not await asyncio.to_thread(self._usable, path, step.node)):
            return False
        step.action, step.status, step.digest, step.fresh = action, "known", digest, False
        return True

    def _usable(self, path: Path, node: Node) -> bool:
        return self._store.sound(path.name) and _admissible(path, node)

    async def _acquire(self, node: Node, lock: Lock) -> None:
        started, tell_at = time.monotonic(), 2.0
        while not lock.attempt():
            if (passed := time.monotonic() - started) >= tell_at:
                self._view.line(node, f"waiting for {lock.holder()}, which makes the same ({passed:.0f} s)")
                tell_at = passed + 10.0
            await asyncio.sleep(POLL_S)

    async def _process(self, node: Node, step: Step, result: Result, paths: dict[str, Path]) -> None:
        assert step.key is not None and step.preimage is not None
        env = self._planner.environment(node)
        log = Log(self._logs / f"{_file_name(node)}-{step.key[:8]}.log")
        result.log = log.path
        started = time.monotonic()
        try:
            with self._store.workplace(step.key) as folder:
                request = self._request(node, step, self._params(node, step, paths, folder), env)
                watch = children.Watch(
                    lambda text: self._view.line(node, text),
                    lambda figures: self._view.figures(node, figures),
                    lambda pid: self._started(node, pid),
                    self._running.discard,
                )
                job = self._job(node, step, paths, folder)
                report = await children.run(request, env, self._planner.launcher, job, log, watch)
                digest = report["contract"]["digest"]
                self._store.insert(folder / "out", digest, self._lease)
        except errors.GateFailed as error:
            self._store.record(step.key, self._action(step, time.monotonic() - started, None) | {"rejected": error.as_dict()})
            raise
        except InterlockError:
            if node.stage.offer.distribution:  # it may have changed what it was given: that is read again before anything else takes it
                self._whole.difference_update(step.preimage["inputs"].values())
            raise
        finally:
            log.close()
        self._whole.add(digest)
        peak = report["peak_rss_bytes"]
        contract = report["contract"]
        output = {"kind": node.stage.produces, "digest": digest, "bytes": _size(contract), "figures": figures(contract)}
        action = self._action(step, time.monotonic() - started, peak) | {"output": output, "work_s": report["wall_s"]}
        self._store.record(step.key, action)
        step.action, step.digest, step.status, step.fresh = action, digest, "known", False
        result.state, result.digest, result.wall_s, result.peak_rss_bytes = "made", digest, action["wall_s"], peak
        self._view.step(node, "made")

    def _started(self, node: Node, pid: int) -> None:
        self._running.add(pid)
        self._view.started(node, pid)

    def _request(self, node: Node, step: Step, params: dict[str, Any], env: Environment) -> Request:
        assert step.preimage is not None
        stage, launcher = node.stage, self._planner.launcher
        gates = [
            {"module": one.entry.module, "attribute": one.entry.attribute, "distribution": one.entry.offer.distribution, "params": one.params}
            for one in node.gates
        ]
        return Request(
            stage=stage.name,
            module=stage.module,
            environment=stage.environment,
            params=params,
            attribute=stage.attribute,
            source=step.preimage["source"],
            project=str(ROOT),
            distribution=stage.offer.distribution,
            gates=gates,
            launcher=self._options.launcher,
            image=launcher.image(env),
        )

    def _job(self, node: Node, step: Step, paths: dict[str, Path], folder: Path) -> Job:
        """The places that the step's process needs."""
        assert step.key is not None
        reads = [*paths.values(), *(Path(node.params[name]) for name in node.stage.reads if node.params.get(name) is not None)]
        if node.foreign is not None:
            reads += source_digest.places(*node.foreign)
        refused = self._store.rejected_path(step.key).parent
        kept = [self._store.state_path(step.key).parent] if node.stage.resumes else []
        writes = tuple(path.absolute() for path in (refused, *kept))
        return Job(folder.absolute(), tuple(dict.fromkeys(path.absolute() for path in reads)), writes, Path.cwd())

    def _params(self, node: Node, step: Step, paths: dict[str, Path], folder: Path) -> dict[str, Any]:
        assert step.key is not None
        directories = {name: str(path) for name, path in paths.items()}
        own = {"out": str(folder / "out"), "rejected": str(self._store.rejected_path(step.key)), "toy": node.toy}
        own |= {"state": str(self._store.state_path(step.key).absolute())} if node.stage.resumes else {}
        own |= {"again": again} if (again := self._recall.again(node)) else {}
        # Another package's stage runs in a folder of its own: what it reads from outside is named in full.
        reads = {name: str(Path(node.params[name]).absolute()) for name in node.stage.reads if node.params.get(name) is not None}
        return {**node.params, **reads, **directories, **own}

    def _action(self, step: Step, wall_s: float, peak: int | None) -> dict[str, Any]:
        made = {"stage": step.node.stage.name, "preimage": step.preimage, "wall_s": round(wall_s, 3), "made_unix_s": int(time.time())}
        return made | {"peak_rss_bytes": peak, "launcher": self._options.launcher}

    def _reasons(self, node: Node, step: Step, again: bool) -> list[str]:
        assert step.preimage is not None
        if again:
            return ["its artifact is needed and is not in the store any more"]
        if step.fresh:
            return ["asked for on the command line"]
        old = self._recall.before(node)
        if old is None:
            return ["never made here before"]
        new = self._planner.details(step)
        return why.leaves(old, step.preimage, lambda digest: new.get(digest) or self._store.detail(digest)) or [
            "what it had made is gone from the store"
        ]


async def _all(works: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Every result, or the first failure once all have ended: none is left running unseen."""
    ended = await asyncio.gather(*works, return_exceptions=True)
    failures = [outcome for outcome in ended if isinstance(outcome, BaseException)]
    if failures:
        raise next((f for f in failures if not isinstance(f, _Skipped)), failures[0])
    return list(ended)


def _admissible(path: Path, node: Node) -> bool:
    """Whether the next stage may read what `node` has in the store: its maker was its environment as that is defined now, or all of it is a toy."""
    from interlock.contracts import io

    if node.toy:
        return True
    file, model = io.KINDS[node.stage.produces]
    with contextlib.suppress(errors.EnvironmentRefused):
        check_producer(path / file, io.read_contract(path / file, model))
        return True
    return False


def _size(contract: dict[str, Any]) -> int:
    return sum(entry["bytes"] for entry in contract["files"])


def _file_name(node: Node) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "_" for char in node.title)
