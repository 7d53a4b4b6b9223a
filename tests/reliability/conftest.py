"""What reliability tests share: how much of them runs, in which environment, and where they put their figures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.stub_builds import interpreter
from reliability.projects import Project
from reliability.scoreboard import HERE, KINDS

# One test of the whole catalogue may be an hour's work where other programs run beside it.
FULL_LIMIT_S = 7200


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """They run once, from the train environment: what they prove is about processes and file systems, not about an interpreter.

    What the machine cannot do is left out, and said at the end of the run.
    """
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("e2e")
            if _full():
                item.add_marker(pytest.mark.timeout(FULL_LIMIT_S))
    lacking = [item for item in items if any(not HERE[mark.args[0]]() for mark in item.iter_markers("needs"))]
    if lacking:
        config.hook.pytest_deselected(items=lacking)
        items[:] = [item for item in items if item not in lacking]


@pytest.fixture(scope="session")
def extent() -> bool:
    """Whether the whole catalogue runs (`make test-reliability`), not the even sample that stands in `make test`."""
    return _full()


def _full() -> bool:
    return os.environ.get("INTERLOCK_RELIABILITY") == "full"


@pytest.fixture
def score(request: pytest.FixtureRequest) -> Callable[[str, int, int], None]:
    """Add `good` of `total` to the figure of a kind: "kills", "flips", "faults" or "power loss". Call it before asserting that they are equal."""

    def add(kind: str, good: int, total: int) -> None:
        assert kind in KINDS
        request.node.user_properties.append(("score", (kind, good, total)))

    return add


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where the machine has one: thousands of small trees that are made and removed should wear out no disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def stub_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the stub stages."""
    return interpreter(tmp_path_factory.mktemp("python") / "venv")


@pytest.fixture
def project(memory: Path, stub_python: Path) -> Project:
    """A folder with the recipe chain.toml, nothing built yet."""
    made = Project(memory / "project", stub_python)
    made.write()
    return made.asked_before()
