"""`data record`: its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, help="dataset directory with tools")
    parser.add_argument(
        "results", type=Path, metavar="FILE", help="one call per line: `name`, `arguments`, `result`; or filled-in stubs of an evaluation"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="dataset directory to make")
    parser.add_argument("--toy", action="store_true", help="allow toy artifacts and any interpreter; the contract says so")


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.driver import stage
    from pipeline.reports.ending import finish
    from pipeline.stages import data_record

    params = data_record.Params(dataset=args.dataset, results=args.results, out=args.out, toy=args.toy)
    return finish(stage.run(data_record.STAGE, params, session.voice, session.argv), as_json=args.json)
