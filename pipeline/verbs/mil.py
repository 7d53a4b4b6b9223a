"""Verb `mil`: look into any saved Core ML package, run it, and say which operations are done.

Here: options, tables and arrays on disk. Not here: reading and running packages (runtime/mil).
"""

from __future__ import annotations

import argparse
import io
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.command import Session, emit
from interlock.errors import UsageError, refuse
from interlock.fs import save_file
from interlock.voice import human, plain

if TYPE_CHECKING:
    from runtime.mil import Program
    from runtime.mil.program import Function, NamedType


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["inspect", "run", "ops"], help="inspect a package; run one function; list the operations of the runner")
    parser.add_argument("package", type=Path, nargs="?", help="an .mlpackage directory (not for `ops`)")
    parser.add_argument("--function", metavar="NAME", help="run: which function (default: the package's own default)")
    parser.add_argument("--mode", choices=["fp32", "fp16"], default="fp16", help="run: round fp16 values as a device stores them, or nothing")
    parser.add_argument("--inputs", type=Path, metavar="FILE", help="run: an .npz file with an array for each input; what it lacks is zero")
    parser.add_argument("--out", type=Path, metavar="FILE", help="run: write the outputs as an .npz file")


def run(args: argparse.Namespace, session: Session) -> int:
    if args.action == "ops":
        return _show(_operations(), args.json, _operation_lines)
    if args.package is None:
        raise UsageError(f"`mil {args.action}` needs a package", remedy="name an .mlpackage directory")
    from runtime.mil import open_package

    package = args.package / "model.mlpackage" if (args.package / "model.mlpackage").is_dir() else args.package
    with session.voice.task(f"read {package}"):
        program = open_package(package)
    if args.action == "inspect":
        return _show(inspected(program), args.json, _inspect_lines)
    return _show(_run(args, program, session), args.json, _run_lines)


def _show(document: dict[str, Any], as_json: bool, lines: Any) -> int:
    if as_json:
        emit(document)
    else:
        sys.stdout.write("\n".join(plain(line) for line in lines(document)) + "\n")
    return 0


def inspected(program: Program) -> dict[str, Any]:
    """What a package says of itself: functions with inputs, outputs and states, operations by type, weights with bits per element."""
    return {
        "package": str(program.path),
        "specification_version": program.specification_version,
        "default_function": program.default_function,
        "metadata": dict(program.metadata),
        "weights": _weights(program),
        "functions": {name: _function(function) for name, function in program.functions.items()},
    }


def _weights(program: Program) -> list[dict[str, Any]]:
    """Stored blobs by element type, each counted once however many functions share it."""
    from runtime.mil.program import Constant, TensorType

    seen: dict[tuple[str, int], tuple[str, int, int]] = {}
    for function in program.functions.values():
        for operation in function.operations():
            bound = [item for items in operation.inputs.values() for item in items if isinstance(item, Constant)]
            for constant in (*operation.attributes.values(), *bound):
                if constant.origin and isinstance(constant.type, TensorType) and isinstance(constant.content, memoryview):
                    count = 1
                    for size in constant.type.shape or ():
                        count *= size or 0
                    seen[constant.origin] = (constant.type.dtype.mil, count, len(constant.content))
    totals: dict[str, list[int]] = {}
    for dtype, count, size in seen.values():
        total = totals.setdefault(dtype, [0, 0, 0])
        total[0], total[1], total[2] = total[0] + 1, total[1] + count, total[2] + size
    return [
        {
            "dtype": dtype,
            "tensors": tensors,
            "elements": elements,
            "bytes": size,
            "bits_per_element": round(8 * size / elements, 3) if elements else 0,
        }
        for dtype, (tensors, elements, size) in sorted(totals.items())
    ]


def _function(function: Function) -> dict[str, Any]:
    types = {value.name: value for operation in function.block.operations for value in operation.outputs}
    types |= {value.name: value for value in function.inputs}
    return {
        "opset": function.opset,
        "inputs": _named(function.inputs, function),
        "outputs": _named(tuple(types[name] for name in function.block.outputs), function),
        "states": _named(function.states, function),
        "operations": dict(Counter(operation.type for operation in function.operations()).most_common()),
    }


def _named(values: tuple[NamedType, ...], function: Function) -> dict[str, str]:
    shown = {}
    for value in values:
        kind = getattr(value.type, "wrapped", value.type)
        enumerated = function.features[value.name].enumerated if value.name in function.features else ()
        shown[value.name] = f"{kind}" + (f" one of {[list(shape) for shape in enumerated]}" if enumerated else "")
    return shown


def _inspect_lines(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['package']}  specification {document['specification_version']}, default function {document['default_function']}"]
    for weights in document["weights"]:
        size = human(weights["bytes"], "B")
        lines.append(
            f"  weights  {weights['tensors']} x {weights['dtype']}, {weights['elements']} elements, {size}, {weights['bits_per_element']:g} bits each"
        )
    for name, function in document["functions"].items():
        lines.append(f"{name}  ({function['opset']})")
        for kind in ("inputs", "outputs", "states"):
            lines += [f"  {kind[:-1]:<7}  {key}: {value}" for key, value in function[kind].items()]
        lines.append("  ops      " + ", ".join(f"{count} {kind}" for kind, count in function["operations"].items() if kind != "const"))
    return lines


def _run(args: argparse.Namespace, program: Program, session: Session) -> dict[str, Any]:
    import numpy as np

    from runtime.mil import Runner

    name = args.function or program.default_function
    if name not in program.functions:
        raise UsageError(f"the package has no function `{name}`", remedy=f"its functions are {', '.join(program.functions)}")
    function = program.functions[name]
    given = _arrays(args.inputs) if args.inputs else {}
    filled = sorted(value.name for value in function.inputs if value.name not in given)
    inputs = {**given, **{value.name: _zeros(value, function) for value in function.inputs if value.name in filled}}
    if filled:
        session.voice.warn(f"zeros are given as {', '.join(filled)}")
    started = time.monotonic()
    with session.voice.task(f"run {name} in mode {args.mode}"):
        runner = Runner(program, mode=args.mode)
        outputs = runner.run(name, inputs, runner.new_state(name) if function.states else None)
    if args.out:
        buffer = io.BytesIO()
        np.savez(buffer, **outputs)  # type: ignore[arg-type]  # arrays by name
        save_file(args.out, buffer.getvalue())
    summary = {
        key: {
            "dtype": str(array.dtype),
            "shape": list(array.shape),
            "finite": bool(np.isfinite(array).all()),
            "min": float(array.min()) if array.size else None,
            "max": float(array.max()) if array.size else None,
        }
        for key, array in outputs.items()
    }
    return {"function": name, "mode": args.mode, "zero_inputs": filled, "wall_s": round(time.monotonic() - started, 3), "outputs": summary}


def _arrays(path: Path) -> dict[str, Any]:
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


def _run_lines(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['function']} in mode {document['mode']}, {document['wall_s']:.1f} s"]
    for name, output in document["outputs"].items():
        finite = "finite" if output["finite"] else "NOT FINITE"
        lines.append(f"  {name}: {output['dtype']} {output['shape']}, from {output['min']:.6g} to {output['max']:.6g}, {finite}")
    return lines


def _operations() -> dict[str, Any]:
    from runtime.mil.ops.registry import CONSTANT_OPERATIONS, NOT_DONE, OPERATIONS
    from runtime.mil.plan import STRUCTURE

    proofs = {name: entry.proof for table in (OPERATIONS, CONSTANT_OPERATIONS) for name, entry in table.items()} | STRUCTURE
    return {"done": dict(sorted(proofs.items())), "not_done": NOT_DONE}


def _operation_lines(document: dict[str, Any]) -> list[str]:
    lines = [f"{name:<34} tests/runtime/mil/{proof}" for name, proof in document["done"].items()]
    lines += [f"{name:<34} not done: {reason}" for name, reason in document["not_done"].items()]
    return [*lines, f"{len(document['done'])} done, {len(document['not_done'])} not"]
