"""Which tests run where: a test marked `train` or `export` needs that environment; e2e tests drive both and run from train."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.environments import environments
from pipeline.launchers.nix import system_name

pytest_plugins = ("reliability.scoreboard",)

HERE = "export" if importlib.util.find_spec("coremltools") else "train"
HOME = {"train": "train", "export": "export", "e2e": "train"}
# What cannot even be imported there: llguidance, starlette and jsonschema are of the train environment alone.
collect_ignore = ["e2e", "runtime/engine/constraints", "runtime/serving", "runtime/tools"] if HERE == "export" else []
if "INTERLOCK_HARNESSES" not in os.environ:
    collect_ignore += ["interop"]  # `tox -e interop` has what it asks


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what belongs to the other environment: tox runs it there (`tox -e test-export`, `tox -e test-train`).

    Whole chains need all environments: where one does not exist for the system they cannot be (`interlock ci matrix` says so).
    """
    whole = all(system_name() in env.definition["tool"]["interlock"]["systems"] for env in environments().values())
    homes = HOME if whole else HOME | {"e2e": "a system that has every environment"}
    elsewhere = [item for item in items if any(homes[name] != HERE for name in homes if item.get_closest_marker(name))]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]
    items.sort(key=lambda item: item.get_closest_marker("long") is None)  # the rest stays in its order


@pytest.fixture(scope="session", autouse=True)
def _own_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Builds of the tests keep their records and their store in a folder of this run, not in the project's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERLOCK_HOME", str(tmp_path_factory.mktemp("home") / ".interlock"))
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return Path(__file__).resolve().parent.parent
