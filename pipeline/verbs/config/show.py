"""`config show`: the configuration that `infer` would run a model with.

Here: its sources and the document. Not here: the table (pipeline/reports/configuration.py).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from interlock.command import Session, emit
from runtime.infer.options import add_field_options, given_fields


def add_options(parser: argparse.ArgumentParser) -> None:
    told = "deployed directory or checkpoint; without it the file and the tier alone say what holds"
    parser.add_argument("directory", type=Path, nargs="?", metavar="DIR", help=told)
    add_field_options(parser)


def run(args: argparse.Namespace, session: Session) -> int:
    from runtime.effective import of_directory, read_file, resolve

    own, model = of_directory(args.directory) if args.directory else (None, None)
    file = read_file(args.config) if args.config else own
    resolved = resolve(file, model, environ=os.environ, given=given_fields(args))
    if args.json:
        emit({"model": str(args.directory) if args.directory else None, "file": file.path if file else None, "fields": resolved.as_dict()})
        return 0
    from pipeline.reports.configuration import show

    show(resolved)
    return 0
