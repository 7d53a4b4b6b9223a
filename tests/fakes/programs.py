"""ML Programs for tests: single operations as records in memory, saved packages made by coremltools.

Records need no converter, so that operations are tested in both environments.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.mil import Program, Runner, open_package
from runtime.mil.execute import Mode
from runtime.mil.program import BY_NAME, Block, Constant, DataType, Function, NamedType, Operation, TensorType, ValueType

Array = NDArray[Any]
_NUMPY = {np.dtype(dtype.numpy): dtype for dtype in DataType if dtype.numpy and not dtype.is_sub_byte}


def constant(value: Any, dtype: str | None = None) -> Constant:
    """A Python value or array: int → int32, float → fp32, str, bool, sequences of them → vectors."""
    if isinstance(value, str):
        return Constant(TensorType(DataType.STRING, ()), (value,))
    array = np.asarray(value)
    if not isinstance(value, (np.ndarray, np.generic)):
        array = array.astype({"i": np.int32, "f": np.float32}.get(array.dtype.kind, array.dtype))
    kind = BY_NAME[dtype] if dtype else _NUMPY[array.dtype]
    return Constant(TensorType(kind, array.shape), memoryview(np.ascontiguousarray(array).tobytes()))


def tensor(dtype: str, *shape: int | None) -> TensorType:
    return TensorType(BY_NAME[dtype], shape)


def operation(kind: str, outputs: dict[str, ValueType], **inputs: Any) -> Operation:
    """Inputs are names, constants or tuples of them."""
    bindings = {name: value if isinstance(value, tuple) else (value,) for name, value in inputs.items()}
    return Operation(kind, bindings, {}, tuple(NamedType(name, dtype) for name, dtype in outputs.items()), ())


def program(
    operations: list[Operation], inputs: dict[str, ValueType], outputs: tuple[str, ...], states: dict[str, ValueType] | None = None
) -> Program:
    """One function `main`."""
    named = tuple(NamedType(name, kind) for name, kind in inputs.items())
    kept = tuple(NamedType(name, kind) for name, kind in (states or {}).items())
    function = Function("main", "CoreML8", named, kept, Block((), outputs, tuple(operations)), {})
    return Program(Path("memory.mlpackage"), 9, {"main": function}, "main")


def evaluate(kind: str, *, out: tuple[str, ...] = (), executor: Mode = "fp32", **parameters: Any) -> Any:
    """Run one operation. Arrays (and lists of arrays) are inputs of the run, other values constants. out: types of the results, default x's.

    Returns one array, or a tuple of them.
    """
    arrays: dict[str, Array] = {}
    bindings: dict[str, Any] = {}
    for name, value in parameters.items():
        if isinstance(value, np.ndarray):
            arrays[name] = value
            bindings[name] = name
        elif isinstance(value, list):
            arrays.update({f"{name}_{at}": part for at, part in enumerate(value)})
            bindings[name] = tuple(f"{name}_{at}" for at in range(len(value)))
        else:
            bindings[name] = value if isinstance(value, Constant) else constant(value)
    types = out or (_NUMPY[next(iter(arrays.values())).dtype].mil,)
    results = {f"result_{at}": TensorType(BY_NAME[dtype], None) for at, dtype in enumerate(types)}
    inputs = {name: TensorType(_NUMPY[array.dtype], array.shape) for name, array in arrays.items()}
    single = program([operation(kind, dict(results), **bindings)], dict(inputs), tuple(results))
    found = tuple(Runner(single, executor).run("main", arrays).values())
    return found[0] if len(found) == 1 else found


def save(model: Any, **options: Any) -> Path:
    """Convert a traced module or a MIL program with plain coremltools and save it; the folder goes when the process ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct

        target = options.pop("target", "iOS18")
        built = ct.convert(model, convert_to="mlprogram", minimum_deployment_target=ct.target[target], skip_model_load=True, **options)
        return save_model(built)


def save_model(built: Any) -> Path:
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)
    path = Path(folder.name) / "model.mlpackage"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built.save(str(path))
    return path


def opened(model: Any, **options: Any) -> Program:
    return open_package(save(model, **options))


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
