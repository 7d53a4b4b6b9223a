"""Running checks: side by side, each within its time, whatever it does.

Here: threads, limits, failures of checks as findings. Not here: the checks.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from interlock.errors import InterlockError
from pipeline.doctor.finding import Finding, error, warning
from pipeline.doctor.place import Place

Look = Callable[[Place], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One check: `call` is `module:function`, imported only when it runs, so that one missing package fails one check.

    `of_clone`: it looks at what only a clone has (scripts, tox.ini, test locks), not the copy of the project in an image or in a package of Nix.
    """

    name: str
    group: str
    call: str
    limit_s: float = 5.0
    of_clone: bool = False

    def look(self) -> Look:
        module, _, function = self.call.partition(":")
        found: Look = getattr(importlib.import_module(module), function)
        return found


def examine(checks: Sequence[Check], place: Place) -> list[Finding]:
    """What every check found, in the order of `checks`. One that fails or takes too long is a finding; nothing is raised, nothing waited for."""
    found: dict[str, list[Finding]] = {}
    checks = [check for check in checks if place.is_clone or not check.of_clone]
    started = time.monotonic()
    threads = {check.name: threading.Thread(target=_run, args=(check, place, found), daemon=True) for check in checks}
    for thread in threads.values():
        thread.start()
    for check in checks:
        threads[check.name].join(max(0.0, started + check.limit_s - time.monotonic()))
    ended = dict(found)  # one that ends now is too late
    return [replace(one, group=check.group, check=check.name) for check in checks for one in ended.get(check.name, [_late(check)])]


def _run(check: Check, place: Place, found: dict[str, list[Finding]]) -> None:
    mine: list[Finding] = []
    try:
        mine.extend(check.look()(place))
    except InterlockError as problem:
        mine.append(error(problem.problem, expected="that this can be looked at", remedy=problem.remedy, evidence=check.call))
    except ModuleNotFoundError as missing:
        mine.append(
            warning(
                f"not looked at any further: the Python that runs this has no package `{missing.name}`",
                expected="the train environment",
                remedy="make environments",
                evidence=sys.executable,
            )
        )
    except OSError as problem:
        what = f"`{problem.filename}` cannot be read: {problem.strerror}" if problem.filename else str(problem)
        mine.append(error(what, expected="that this can be looked at", remedy="put it there, or give yourself the right to it", evidence=check.call))
    except Exception as problem:
        mine.append(
            error(
                f"the check itself failed: {type(problem).__name__}: {str(problem)[:200]}",
                expected="an answer",
                remedy="mend what the reason names; if it names nothing of this machine the check is wrong: report this line",
                evidence=check.call,
            )
        )
    found[check.name] = mine


def _late(check: Check) -> Finding:
    return warning(
        f"no answer in {check.limit_s:g} s",
        expected="an answer in time",
        remedy="look for what is slow or stuck (a file system, a daemon), then run it again",
        evidence=check.call,
    )
