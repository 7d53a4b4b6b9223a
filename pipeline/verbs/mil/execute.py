"""`mil run`: one function of a package on arrays from a file.

Here: arrays in and out. Not here: executing (runtime/mil).
"""

from __future__ import annotations

import argparse
import io
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.command import Session
from interlock.errors import UsageError, refuse
from interlock.fs import save_file

if TYPE_CHECKING:
    from runtime.mil import Program
    from runtime.mil.program import Function, NamedType


def executed(args: argparse.Namespace, program: Program, session: Session) -> dict[str, Any]:
    import numpy as np

    from runtime.mil import Runner

    name = args.function or program.default_function
    if name not in program.functions:
        raise UsageError(f"the package has no function `{name}`", remedy=f"its functions are {', '.join(program.functions)}")
    function = program.functions[name]
    given = arrays(args.inputs) if args.inputs else {}
    filled = sorted(value.name for value in function.inputs if value.name not in given)
    inputs = {**given, **{value.name: _zeros(value, function) for value in function.inputs if value.name in filled}}
    if filled:
        session.voice.warn(f"zeros are given as {', '.join(filled)}")
    started = time.monotonic()
    mode: Any = args.mode or "fp16"
    with session.voice.task(f"run {name} in mode {mode}"):
        runner = Runner(program, mode=mode)
        outputs = runner.run(name, inputs, runner.new_state(name) if function.states else None)
    if args.out:
        buffer = io.BytesIO()
        np.savez(buffer, **outputs)  # type: ignore[arg-type]  # arrays by name
        save_file(args.out, buffer.getvalue())
    summary = {key: _summary(array) for key, array in outputs.items()}
    wall_s = round(time.monotonic() - started, 3)
    return {"function": name, "mode": mode, "how": list(runner.notes), "zero_inputs": filled, "wall_s": wall_s, "outputs": summary}


def _summary(array: Any) -> dict[str, Any]:
    import numpy as np

    found = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.dtype.kind == "U":
        return {**found, "class": str(array)}
    extremes = {"min": float(array.min()), "max": float(array.max())} if array.size else {"min": None, "max": None}
    return {**found, "finite": bool(np.isfinite(array).all()), **extremes}


def arrays(path: Path) -> dict[str, Any]:
    """Arrays of an .npz file; never a pickle. Raises ContractError."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UsageError(f"`{path}` does not exist", remedy="write it with numpy.savez") from None
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError):
        # numpy's own message recommends its unsafe reader.
        found = "another kind of file, or Python objects in it"
        raise refuse(path, "", expected="an .npz file of plain arrays", found=found, remedy="write it with numpy.savez") from None


def _zeros(value: NamedType, function: Function) -> Any:
    import numpy as np

    from runtime.mil.program import TensorType

    feature = function.features.get(value.name)
    shape = (
        feature.enumerated[0] if feature and feature.enumerated else tuple(low for low, _ in feature.ranges) if feature and feature.ranges else None
    )
    assert isinstance(value.type, TensorType)
    return np.zeros(shape or [size or 1 for size in value.type.shape or ()], value.type.dtype.numpy or np.float32)


def lines_of(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['function']} in mode {document['mode']}, {document['wall_s']:.1f} s"]
    lines += [f"  {note}" for note in document["how"]]
    for name, output in document["outputs"].items():
        lines.append(f"  {name}: {output['dtype']} {output['shape']}{_told(output)}")
    return lines


def _told(output: dict[str, Any]) -> str:
    if "class" in output:
        return f", `{output['class']}`"
    finite = "finite" if output["finite"] else "NOT FINITE"
    return "" if output["min"] is None else f", from {output['min']:.6g} to {output['max']:.6g}, {finite}"
