"""Entry: what each way of storing weights costs and keeps, beside coremltools' own compression of the same package.

Here: options, the measurements, the table. Not here: the methods (pipeline/coreml/compression). Environment `export`.
One function (`decode`) is converted and compressed by every method. KL is that of the eager student, with the weights as the forms declare them, from
the checkpoint's, over 512 positions of the shipped text. Processor times are of one thread, ours and coremltools' in turns in one run.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import entry
from interlock import command
from interlock.contracts import checkpoint, export
from interlock.contracts.io import read_contract


def main(argv: Sequence[str] | None = None) -> int:
    given = command.words(argv)
    summary = "bytes, divergence and processor time of each way of storing weights"
    parser = command.parser("benchmarks.compression", summary, "python -m benchmarks.compression models/student/checkpoint models/student/exported")
    parser.add_argument("checkpoint", type=Path, help="checkpoint imported from a quantised file")
    parser.add_argument("exported", type=Path, help="its export")
    parser.add_argument("--rounds", type=int, default=2, help="times that each is timed; the fastest counts (%(default)s)")

    return entry.run(parser, given, lambda options: measure(options.checkpoint, options.exported, options.rounds), table)


def measure(folder: Path, exported: Path, rounds: int) -> dict[str, Any]:
    """Every method on the decode function: bytes of `weight.bin`, KL, seconds; for int8 and int4 coremltools' seconds as well."""
    import torch

    from pipeline.coreml.compression.sensitivity import Measure
    from pipeline.coreml.functions import cache_length, convert_stateful, plan_functions
    from pipeline.export.shapes import prompt_ids
    from runtime.student.checkpoint import load_student

    torch.set_num_threads(1)
    contract = read_contract(folder / checkpoint.FILE, checkpoint.CheckpointContract)
    source = read_contract(exported / export.FILE, export.ExportContract)
    student, prompt = load_student(folder, contract), prompt_ids(exported, source)
    divergence = Measure(student, prompt)
    with tempfile.TemporaryDirectory() as scratch:
        into = Path(scratch)
        files = {name: exported / name for name in source.signatures}
        slots = cache_length(source.enumerated_T, 256, source.arch.max_position)
        decode = plan_functions(source.enumerated_T)[-1:]
        package = convert_stateful(files, source.signatures, decode, slots, into, lambda text: None)[0]["decode"]
        rows = [_methods(package, into, student, prompt, divergence, folder, contract, name, rounds) for name in ("source", "int8", "int4")]
        return {"fp16_bytes": _bytes(package), "methods": rows}


def _methods(
    package: Path, into: Path, student: Any, prompt: list[int], divergence: Any, folder: Path, contract: Any, method: Any, rounds: int
) -> dict[str, Any]:
    from pipeline.coreml.compression.carried import carried
    from pipeline.coreml.compression.compress import Request, compress

    made = into / f"{method}.mlpackage"
    ours, theirs = [], []
    for _ in range(rounds):
        _remove(made)
        blocks = carried(folder, contract, student) if method == "source" else ()
        ours.append(_seconds(lambda blocks=blocks: compress(package, made, Request(method), student, blocks, prompt, lambda text: None)))
        if method != "source":
            theirs.append(_coremltools(package, into / "theirs.mlpackage", method))
    figures = divergence(_declared(made, package, student))
    row = {
        "method": method,
        "bytes": _bytes(made),
        "kl_mean": figures.kl_mean,
        "kl_max": figures.kl_max,
        "psnr_db": figures.psnr_db,
        "seconds": min(ours),
    }
    if theirs:
        other = divergence(_declared(into / "theirs.mlpackage", package, student))
        row["coremltools"] = {
            "bytes": _bytes(into / "theirs.mlpackage"),
            "kl_mean": other.kl_mean,
            "kl_max": other.kl_max,
            "psnr_db": other.psnr_db,
            "seconds": min(theirs),
        }
    return row


def _declared(package: Path, fp16: Path, student: Any) -> Iterator[tuple[str, Any]]:
    """The student's weights as a package declares them, by the runner's reading of its constexpr operations.

    The converter's names hold: ours keeps a constant's name, coremltools adds a suffix to it.
    """
    import torch

    from pipeline.coreml.compression.compress import student_weights
    from runtime.mil import open_package
    from runtime.mil.ops.registry import CONSTANT_OPERATIONS

    by_origin = {weight.offset: weight.name for weight in student_weights(fp16, student, lambda text: None)}
    constants = {
        operation.name: operation.attributes["val"].origin
        for operation in next(iter(open_package(fp16).functions.values())).operations()
        if operation.type == "const"
    }
    for operation in next(iter(open_package(package).functions.values())).operations():
        origin = constants.get(operation.name.removesuffix("_quantized"))
        if operation.type.startswith("constexpr_") and origin and origin[1] in by_origin:
            bound: dict[str, Any] = {name: values[0] for name, values in operation.inputs.items()}
            values = CONSTANT_OPERATIONS[operation.type].run(**{name: constant.array() for name, constant in bound.items()})
            yield by_origin[origin[1]], torch.from_numpy(values).float()


def _coremltools(package: Path, into: Path, method: str) -> float:
    """Processor seconds of coremltools' own int8 per channel or int4 in blocks of 32, loading and saving included as ours includes them."""
    from pipeline.coreml.messages import collected, load_converter

    ct, _ = load_converter()
    from coremltools.optimize import coreml

    granularity = {"int8": {"granularity": "per_channel"}, "int4": {"granularity": "per_block", "block_size": 32}}[method]

    def work() -> None:
        config = coreml.OptimizationConfig(global_config=coreml.OpLinearQuantizerConfig(mode="linear_symmetric", dtype=method, **granularity))
        coreml.linear_quantize_weights(ct.models.MLModel(str(package), skip_model_load=True), config).save(str(into))

    _remove(into)
    with collected(), contextlib.redirect_stderr(io.StringIO()):  # its bars
        return _seconds(work)


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _remove(package: Path) -> None:
    import shutil

    shutil.rmtree(package, ignore_errors=True)


def _bytes(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*") if path.is_file())


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines of text."""
    lines = [f"{'fp16, as converted':24} {report['fp16_bytes'] / 1e6:8.1f} MB", ""]
    lines.append(f"{'method':24} {'package':>11} {'KL mean':>9} {'KL max':>9} {'PSNR dB':>8} {'processor s':>12} {'of coremltools':>15}")
    for row in report["methods"]:
        theirs = row.get("coremltools")
        ratio = f"{row['seconds'] / theirs['seconds']:.2f}" if theirs else ""
        lines.append(_line(row["method"], row) + f" {ratio:>15}")
        if theirs:
            lines.append(_line(f"{row['method']}, coremltools", theirs))
    return lines


def _line(name: str, row: dict[str, Any]) -> str:
    return f"{name:24} {row['bytes'] / 1e6:8.1f} MB {row['kl_mean']:9.1e} {row['kl_max']:9.1e} {row['psnr_db']:8.1f} {row['seconds']:12.1f}"


if __name__ == "__main__":
    sys.exit(main())
