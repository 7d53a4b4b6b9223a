"""`config check`: whether a file is a runtime configuration: fields, ranges, and with a model its limits.

Here: the question. Not here: what is refused (runtime/config.py, runtime/limits.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session, emit


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a runtime configuration, as `runtime_config.json`")
    parser.add_argument("directory", type=Path, nargs="?", metavar="DIR", help="the deployed directory or checkpoint that it is for")


def run(args: argparse.Namespace, session: Session) -> int:
    from runtime.config import RuntimeConfig
    from runtime.effective import of_directory, read_file, resolve

    file = read_file(args.file)
    _, model = of_directory(args.directory) if args.directory else (None, None)
    resolved = resolve(file, model)
    cut = {name: one.cut for name, one in resolved.fields.items() if one.cut}
    missing = [name for name in RuntimeConfig.model_fields if name not in file.config.model_fields_set]
    if args.json:
        emit({"file": str(args.file), "valid": True, "cut": cut, "missing": missing})
        return 0
    session.voice.step(f"{args.file} is a runtime configuration" + (f" for {args.directory}" if args.directory else ""))
    for name, why in cut.items():
        session.voice.step(f"{name} will be {resolved.as_dict()[name]['value']}: {why}")
    if missing:
        session.voice.step(f"not in it, so as by default or training: {', '.join(missing)}")
    return 0
