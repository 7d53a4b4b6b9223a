"""Verb `mil`: look into any saved Core ML package, run it, compare it, check it against the rules of devices.

Here: the options and which action takes them; beside it one module per action, with its document and its lines. Not here: the work (runtime/mil).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.command import Session, emit
from interlock.errors import UsageError
from interlock.voice import plain

if TYPE_CHECKING:
    from runtime.mil import Program

ACTIONS = {
    "inspect": "inspect a package",
    "run": "run one function",
    "compare": "find the first operation that differs from a reference",
    "lint": "apply the rules of devices",
    "ops": "list the operations of the runner",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=list(ACTIONS), help="; ".join(ACTIONS.values()))
    parser.add_argument("package", type=Path, nargs="?", help="an .mlpackage directory (not for `ops`)")
    parser.add_argument("reference", type=Path, nargs="?", help="compare: another package, a checkpoint, an export, or a deployed directory")
    parser.add_argument(
        "--function", metavar="NAME", help="run, compare: which function (default: the package's own default; compare: all up to 512 tokens)"
    )
    parser.add_argument(
        "--mode",
        choices=["fp32", "fp16", "fast"],
        help="round fp16 values as a device stores them, or nothing (run: fp16, compare: fp32); fast: run only",
    )
    parser.add_argument("--inputs", type=Path, metavar="FILE", help="run, compare: an .npz file with an array for each input")
    parser.add_argument("--out", type=Path, metavar="FILE", help="run: write the outputs as an .npz file")
    parser.add_argument("--prompt", metavar="TEXT", help="compare: text to run on, by the tokenizer of the reference (default: seeded tokens)")
    parser.add_argument(
        "--tolerance-db", type=float, metavar="DB", help="compare packages: a value diverges below this PSNR (default: the error model)"
    )
    parser.add_argument("--top", type=int, metavar="N", default=10, help="compare: list the N values that differ most (%(default)s)")
    parser.add_argument(
        "--target", choices=["ane", "gpu", "cpu", "any"], default="any", help="lint: the device that the package is for (%(default)s)"
    )


def run(args: argparse.Namespace, session: Session) -> int:
    if args.action == "ops":
        from pipeline.verbs.mil import operations

        return _show(operations.done(), args.json, operations.lines_of)
    if args.package is None:
        raise UsageError(f"`mil {args.action}` needs a package", remedy="name an .mlpackage directory")
    program = opened(args.package, session)
    if args.action == "inspect":
        from pipeline.verbs.mil import inspect

        return _show(inspect.inspected(program), args.json, inspect.lines_of)
    if args.action == "run":
        from pipeline.verbs.mil import execute

        return _show(execute.executed(args, program, session), args.json, execute.lines_of)
    if args.action == "lint":
        from pipeline.verbs.mil import lint

        return _show(document := lint.linted(args, program), args.json, lint.lines_of) or int(document["exit_code"])
    from pipeline.verbs.mil import compare

    return _show(document := compare.compared(args, program, session), args.json, compare.lines_of) or int(document["diverges"])


def opened(path: Path, session: Session) -> Program:
    """The package at a path, or in the directory of a stage."""
    from runtime.mil import open_package

    package = path / "model.mlpackage" if (path / "model.mlpackage").is_dir() else path
    with session.voice.task(f"read {package}"):
        return open_package(package)


def _show(document: dict[str, Any], as_json: bool, lines: Callable[[dict[str, Any]], Sequence[str]]) -> int:
    if as_json:
        emit(document)
    else:
        sys.stdout.write("\n".join(plain(line) for line in lines(document)) + "\n")
    return 0
