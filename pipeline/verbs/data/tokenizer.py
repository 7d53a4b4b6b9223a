"""`data tokenizer`: its options, and the directory that it makes."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from interlock import fs
from interlock.command import Session, emit
from interlock.voice import plain


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="dataset directory")
    parser.add_argument("--vocab-size", type=int, required=True, metavar="N", help="the most ids: 9 special tokens, 256 bytes, merges")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to make: tokenizer.json, configuration, chat template")
    parser.add_argument("--split", default="train", metavar="NAME", help="the rows that it is made from (default %(default)s)")


def run(args: argparse.Namespace, session: Session) -> int:
    from interlock.contracts import io
    from interlock.contracts.dataset import DatasetContract
    from pipeline.datasets import tokenizer
    from pipeline.datasets.reading import read_split
    from pipeline.datasets.tools import offered
    from pipeline.driver.stage import read_whole

    names = set(tokenizer.directory(b""))
    fs.check_replaceable(args.out, lambda out: set(io.walk(out)) <= names)
    contract = read_whole(args.dataset, DatasetContract, session.voice)
    rows = read_split(args.dataset, contract, args.split, session.voice)
    tools = offered(args.dataset, contract.tools, rows)
    with session.voice.task("train the tokenizer"):
        made = tokenizer.train(tokenizer.texts_of(rows, tools), args.vocab_size)
    with fs.workspace(args.out) as work:
        for name, data in tokenizer.directory(made, tools=bool(tools)).items():
            work.write(name, data)
        fs.publish(work, args.out)
    ids = json.loads(made)["model"]["vocab"]
    document = {"out": str(args.out), "dataset": contract.digest, "split": args.split, "rows": len(rows), "vocab_size": len(ids),
                "merges": len(ids) - tokenizer.LEAST, "sha256": hashlib.sha256(made).hexdigest()}  # fmt: skip
    if args.json:
        emit(document)
    else:
        told = f"tokenizer → {args.out}: {document['vocab_size']} ids, {document['merges']} of them merges, from {len(rows)} rows of `{args.split}`"
        sys.stdout.write(f"{plain(told)}\nsha256 {document['sha256']}\n")
    return 0
