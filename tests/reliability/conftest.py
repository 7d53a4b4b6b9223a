"""What reliability tests share: how much of them runs, in which environment, and where they put their figures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reliability.scoreboard import KINDS


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They run once, from the train environment: what they prove is about processes and file systems, not about an interpreter."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("e2e")


@pytest.fixture(scope="session")
def extent() -> bool:
    """Whether the whole catalogue runs (`make test-reliability`), not the even sample that stands in `make test`."""
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
