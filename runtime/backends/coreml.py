"""Backend `coreml`: the `.mlpackage` run by Core ML itself, on macOS, through coremltools.

Here: whether that can be, and calling it. Not here: prompts and caches (packaged.py).
Source of the interface: coremltools 9.0, models/model.py (`MLModel`, `make_state`, `predict`); one state serves all functions whose states have the
same names and shapes (apple/coremltools #2686).
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
from pathlib import Path
from typing import Any, Literal

from interlock.contracts.package import PackageFacts
from interlock.errors import EnvironmentRefused, StageFailed
from runtime.backends.packaged import Arrays, PackageBackend

Units = Literal["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"]
# States came with macOS 15.
LEAST_MACOS = 15
REQUIRED = f"macOS {LEAST_MACOS} or later, and coremltools with its Core ML bridge"


def coreml_backend(package: Path, facts: PackageFacts, units: Units = "all") -> PackageBackend[Any]:
    """Functions are compiled by Core ML when first used, which takes seconds to minutes; `units` says what they may run on.

    Raises EnvironmentRefused where there is no Core ML, UsageError for a package without a decode function, StageFailed if Core ML refuses it.
    """
    require_core_ml()
    functions = Functions(package, units)
    return PackageBackend(facts, functions.call, lambda: functions.model("decode").make_state())


def require_core_ml() -> None:
    """Raises EnvironmentRefused that says what is missing."""
    if sys.platform != "darwin":
        raise _refused("Core ML exists on macOS only", f"{platform.system()} {platform.machine()}")
    version = platform.mac_ver()[0]
    if int(version.split(".")[0]) < LEAST_MACOS:
        raise _refused("this macOS has no Core ML states", f"macOS {version}")
    for module in ("coremltools", "coremltools.libcoremlpython"):
        if importlib.util.find_spec(module) is None:
            raise _refused("coremltools cannot reach Core ML", f"macOS {version} without `{module}`")


def _refused(problem: str, running: str) -> EnvironmentRefused:
    remedy = "use --backend reference: it runs the same package on any platform"
    return EnvironmentRefused(f"backend `coreml` cannot run here: {problem}", required=REQUIRED, running=running, remedy=remedy)


class Functions:
    """The functions of one package as coremltools models, each loaded when first used."""

    def __init__(self, package: Path, units: Units, *, load: bool = True) -> None:
        """load: false reads the description only, which works on any platform."""
        self._package, self._units, self._load = package, units, load
        self._models: dict[str, Any] = {}

    def model(self, function: str) -> Any:
        if function not in self._models:
            ct = importlib.import_module("coremltools")
            options = {"function_name": function, "compute_units": ct.ComputeUnit[self._units.upper()], "skip_model_load": not self._load}
            try:
                self._models[function] = ct.models.MLModel(str(self._package), **options)
            except (RuntimeError, ValueError) as problem:
                raise _failed(function, problem) from problem
        return self._models[function]

    def call(self, function: str, inputs: Arrays, state: Any) -> Arrays:
        try:
            outputs: Arrays = self.model(function).predict(inputs, state=state)
        except (RuntimeError, ValueError) as problem:
            raise _failed(function, problem) from problem
        return outputs


def _failed(function: str, problem: Exception) -> StageFailed:
    text = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
    return StageFailed(
        f"Core ML refused `{function}`: {text}", remedy="try --compute-units cpu_only; --backend reference shows whether the package is sound"
    )
