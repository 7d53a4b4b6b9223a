"""pytest plugin: coremltools' own tests of its operations, run here with the reference runner in the place of Core ML.

The installed package holds them, with inputs and with results that were compared with Apple's runtime; where that runtime is missing they build
programs and compare nothing. This plugin saves each program, runs it with runtime.mil and hands the outputs to the tests' own comparison.
Used by ops/test_published_suite.py in a process of its own: `python -m pytest -p fakes.published_suite PATH --each N`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.mil.program import DataType


@dataclass
class Record:
    """compared: outputs of programs; operations: in how many of these each stands; failed: message by test; last: what a comparison raised."""

    compared: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    last: BaseException | None = None


RECORD = Record()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--each", type=int, default=0, help="of every test function, only so many cases, spread evenly; 0: all")
    parser.addoption("--record", default="", help="write what was compared as JSON to this file")


def pytest_configure(config: pytest.Config) -> None:
    if not importlib.util.find_spec("PIL"):
        # the suite imports it to recognise images, which these tests do not use
        image = types.ModuleType("PIL.Image")
        image.Image = type("Image", (), {})  # type: ignore[attr-defined]
        package = types.ModuleType("PIL")
        package.Image = image  # type: ignore[attr-defined]
        sys.modules.update({"PIL": package, "PIL.Image": image})
    import coremltools as ct
    import torch
    from coremltools.converters.mil import testing_utils

    torch.set_num_threads(1)
    original = testing_utils.ct_convert

    def convert(*args: Any, **options: Any) -> Any:
        """Without loading, and without optimisation where nothing depends on it: the operation under test is what is run, not what replaces it."""
        if options.get("pass_pipeline") is None and options["convert_to"][1] == "fp32":
            options["pass_pipeline"] = ct.PassPipeline.EMPTY
        return original(*args, **{**options, "skip_model_load": True})

    testing_utils.ct_convert = convert
    testing_utils.compare_backend = compare
    ct.models.MLModel.make_state = lambda self: {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    count = config.getoption("--each")
    if not count:
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(item.nodeid.split("[")[0], []).append(item)
    items[:] = [group[(2 * at + 1) * len(group) // (2 * count)] for group in groups.values() for at in range(min(count, len(group)))]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Only what the comparison raised counts: the suite also tests the converter, in ways that ask for another setting or system."""
    report = yield
    if report.when == "call" and report.failed and call.excinfo is not None and call.excinfo.value is RECORD.last:
        RECORD.failed[item.nodeid] = str(call.excinfo.value)[:400]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    record = session.config.getoption("--record")
    if record:
        Path(record).write_text(json.dumps({"compared": RECORD.compared, "operations": RECORD.operations, "failed": RECORD.failed}))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    np.random.seed(0)
    yield


def compare(
    mlmodel: Any,
    input_key_values: dict[str, Any],
    expected_outputs: dict[str, Any] | None,
    dtype: str = "fp32",
    atol: float = 1e-4,
    rtol: float = 1e-5,
    also_compare_shapes: bool = True,
    state: dict[str, Any] | None = None,
    allow_mismatch_ratio: float = 0.0,
) -> dict[str, Any]:
    """Stands in for the suite's function of the same name. state: empty before the first prediction, then the runner and its state."""
    try:
        found, half = _predicted(mlmodel, input_key_values, state)
        for name, expected in (expected_outputs or {}).items():
            result = found[name] if name in found else found[_sanitised(name)]
            _equal(result, expected, half, atol, rtol, also_compare_shapes, allow_mismatch_ratio)
    except Exception as problem:
        RECORD.last = problem
        raise
    return found


def _equal(result: Any, expected: Any, half: bool, atol: float, rtol: float, shapes: bool, mismatched: float) -> None:
    wanted = np.asarray(expected, np.float64)
    if shapes and wanted.shape != ():
        assert result.shape == wanted.shape
    if half:
        # every value and every reference is rounded to 11 bits; the suite itself grants Apple's runtime 0.5 and 5 %
        size = np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
        atol, rtol = max(atol, 2**-8 * size), max(rtol, 2**-8)
    if np.mean(~np.isclose(result.astype(np.float64), wanted, atol=atol, rtol=rtol, equal_nan=True)) > mismatched:
        np.testing.assert_allclose(result, expected, atol=atol, rtol=rtol)
    RECORD.compared += 1


def _predicted(mlmodel: Any, given: dict[str, Any], state: dict[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """The outputs, and whether any value of the program is fp16."""
    from runtime.mil import Runner, open_package

    with tempfile.TemporaryDirectory() as folder:
        mlmodel.save(f"{folder}/m.mlpackage")
        program = open_package(Path(folder) / "m.mlpackage")
        function = program.functions["main"]
        typed = {value.name: _typed(given[value.name], value.type) for value in function.inputs}
        runner = Runner(program, "fp16")
        if state is not None and not state:
            state["main"] = runner.new_state("main")
        found = runner.run("main", typed, state["main"] if state else None)
    for kind in {operation.type for operation in function.operations()}:
        RECORD.operations[kind] += 1
    values = [value.type for operation in function.operations() for value in operation.outputs] + [value.type for value in function.inputs]
    return found, any(getattr(kind, "dtype", None) is DataType.FLOAT16 for kind in values)


def _typed(value: Any, kind: Any) -> Any:
    array = np.asarray(value)
    sized = array.reshape(1) if array.shape == () and kind.shape == (1,) else array
    return sized.astype({"fp16": np.float32}.get(kind.dtype.mil, kind.dtype.numpy))


def _sanitised(name: str) -> str:
    from coremltools.converters.mil.mil.passes.defs.preprocess import NameSanitizer

    return str(NameSanitizer._replace_invalid_char_with_underscore(name))
