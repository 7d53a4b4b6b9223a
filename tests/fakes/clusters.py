"""A Ray cluster of several nodes on this machine, and what its processes are told to prepare."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.asking import Settings
from interlock.errors import refuse

TESTS = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Any]:
    """`ray.cluster_utils.Cluster` with `count` nodes of one processor each; they find the modules of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        from ray.cluster_utils import Cluster

        each = {"num_cpus": 1, "object_store_memory": 80 << 20}
        cluster = Cluster(initialize_head=True, head_node_args={**each, "include_dashboard": False})
        try:
            for _ in range(count - 1):
                cluster.add_node(**each)
            yield cluster
        finally:
            cluster.shutdown()


def prepare(settings: Settings, run: str, log: Path) -> tuple[Settings, str]:
    """Leaves a file named by node and process."""
    import ray

    (log / f"{ray.get_runtime_context().get_node_id()} {os.getpid()}").touch()
    return settings, run


def prepare_nothing(place: Path) -> tuple[Settings, str]:
    raise refuse(place, "", expected="a regular file", found="no such file or directory", remedy="")
