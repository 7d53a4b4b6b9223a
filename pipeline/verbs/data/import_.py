"""`data import`: its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session
from interlock.errors import UsageError
from pipeline.verbs.data.pairs import pair


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a .jsonl, .parquet or .arrow file, or a directory of Hugging Face's `datasets`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="dataset directory to make")
    parser.add_argument("--map", dest="columns", nargs="+", default=[], metavar="FIELD=COLUMN",
                        help="the column of a field: prompt=question answer=solution, or several joined: prompt=instruction+input")  # fmt: skip
    parser.add_argument("--keep", nargs="+", default=[], metavar="COLUMN", help="columns that become metadata of a row")
    parser.add_argument("--separator", default="", metavar="TEXT", help=r"comes before each step and answer, \n for a new line (default: nothing)")
    parser.add_argument("--split", default="train", metavar="NAME", help="the split of a source that names none (default %(default)s)")
    parser.add_argument("--hold-out", nargs="+", default=[], metavar="SPLIT=SHARE",
                        help="shares of a source without splits that go to others, by digest of the prompt: validation=0.02 test=0.1")  # fmt: skip
    parser.add_argument("--drop-leaks", action="store_true", help="leave rows out whose prompt a held-out split has, instead of refusing")
    parser.add_argument("--task", metavar="NAME", help="what the rows ask for (default: the name of the source)")
    parser.add_argument("--licence", default="not stated", metavar="TEXT", help="of the rows, as an SPDX identifier or in words")


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.driver import stage
    from pipeline.reports.ending import finish
    from pipeline.stages import data_import

    params = data_import.Params(
        source=args.source,
        out=args.out,
        task=args.task,
        columns=dict(map(pair, args.columns)),
        kept=tuple(args.keep),
        separator=args.separator.replace("\\n", "\n"),
        split=args.split,
        hold_out={name: _share(text) for name, text in map(pair, args.hold_out)},
        drop_leaks=args.drop_leaks,
        licence=args.licence,
    )
    return finish(stage.run(data_import.STAGE, params, session.voice, session.argv), as_json=args.json)


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"`{text}` is no share", remedy="give a number between 0 and 1") from None
