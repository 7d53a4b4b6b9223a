"""The matrix of CI: each tox environment on each system of the locked environment that it installs.

Here: rows read from tox.ini (`env_list`, `labels`, `base_python`, what `commands_pre` installs) and envs/<name>/pyproject.toml (`systems`), so that
neither a workflow nor this module states one. Not here: what a row runs (tox.ini), workflows. Needs no package: CI asks before it installs any.
"""

from __future__ import annotations

import configparser
import itertools
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interlock.environments import ROOT, environments

# The machines of a hosted CI, by Nix's name of the system.
RUNNERS = {"x86_64-linux": "ubuntu-24.04", "aarch64-linux": "ubuntu-24.04-arm", "aarch64-darwin": "macos-15"}
# Where the tests have passed. On another system a job's failure is shown and does not fail the whole.
PROVEN = {"x86_64-linux"}


@dataclass(frozen=True)
class Work:
    """One tox environment. `environment` and `lock` are None where it installs none of envs/."""

    name: str
    python: str
    environment: str | None
    lock: str
    labels: frozenset[str]


@dataclass(frozen=True)
class Row:
    """One job: `tox` on one system, and whether a failure counts; `limits` says what it leaves out there, and why."""

    system: str
    runner: str
    environment: str | None
    python: str
    tox: str
    lock: str
    proven: bool
    limits: str | None


def matrix(root: Path = ROOT) -> dict[str, Any]:
    """The document of `interlock ci matrix`: rows of each change, and those of each night."""
    known = works(root)
    listed = _words(_tox(root)["tox"]["env_list"])
    nightly = [name for name in known if "nightly" in known[name].labels]
    return {
        "pythons": sorted({known[name].python for name in environments(root)}),
        "include": [asdict(row) for name in listed for row in rows(known[name], root)],
        "nightly": [asdict(row) for name in nightly for row in rows(known[name], root)],
    }


def works(root: Path = ROOT) -> dict[str, Work]:
    """Every environment of tox.ini, by name."""
    tox = _tox(root)
    found = {}
    for section in tox.sections():
        for name in _expand(section.removeprefix("testenv:")) if section.startswith("testenv:") else ():
            installs = re.search(r"install (\S+) \{env_python\} (\S+)|sync .*\s(\S+\.(?:txt|lock))$", tox[section].get("commands_pre", ""))
            if installs is None:
                continue
            python = tox[section].get("base_python", "python" + re.sub(r".*py(\d)(\d+).*", r"\1.\2", name)).removeprefix("python")
            labels = _words(tox[section].get("labels", ""))
            lock = f"envs/{installs[1]}/{installs[2]}" if installs[1] else _filled(installs[3], name, tox[section].get("set_env", ""))
            found[name] = Work(name, python, installs[1], lock, frozenset(labels))
    return found


def rows(work: Work, root: Path = ROOT) -> Iterator[Row]:
    """One for each system of the environment, in RUNNERS' order; one alone where one is enough."""
    defined = {name: env.definition["tool"]["interlock"]["systems"] for name, env in environments(root).items()}
    systems = [system for system in RUNNERS if work.environment is None or system in defined[work.environment]]
    for system in systems[:1] if "once" in work.labels else systems:
        lacking = [name for name in defined if system not in defined[name]]
        limits = f"no whole chains: there is no environment {', '.join(lacking)} on {system}" if lacking else None
        yield Row(system, RUNNERS[system], work.environment, work.python, work.name, work.lock, system in PROVEN, limits)


def _tox(root: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((root / "tox.ini").read_text(encoding="utf-8"))
    return parser


def _filled(path: str, name: str, set_env: str) -> str:
    """A path of tox.ini for one environment: `{env:X}` is what `set_env` gives X under a factor of its name."""
    values = {key: value for factor, key, value in re.findall(r"^(\S+): (\w+) = (\S+)$", set_env, re.MULTILINE) if factor in name.split("-")}
    return re.sub(r"\{env:(\w+)\}", lambda found: values[found[1]], path.replace("{/}", "/"))


def _words(text: str) -> list[str]:
    return re.findall(r"[^,\s]+", text)


def _expand(name: str) -> list[str]:
    """The names that tox makes of `{a,b}-x`."""
    parts = [part[1:-1].split(",") if part.startswith("{") else [part] for part in re.findall(r"\{[^}]*\}|[^{}]+", name)]
    return ["".join(word.strip() for word in words) for words in itertools.product(*parts)]
