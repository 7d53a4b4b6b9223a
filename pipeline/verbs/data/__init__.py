"""Verb `data`: datasets to train on and to evaluate with.

Here: the table of actions; beside it one module per action with its options (`add_options`) and its work (`run`), as verbs have. Not here: rows
(pipeline/datasets), the stages that write them (pipeline/stages).
"""

from __future__ import annotations

import argparse

from interlock.command import Session
from pipeline.verbs import actions

ACTIONS = {
    "make": actions.Action("pipeline.verbs.data.make", "make a dataset by a seeded generator: same seed, same bytes",
                           "interlock data make permutation-automaton --out models/student/data --rows train=64000"),
    "import": actions.Action("pipeline.verbs.data.import_", "bring a dataset in: JSON lines, Parquet, directories of Hugging Face's `datasets`",
                             "interlock data import path/to/dataset --map prompt=question --out models/student/data"),
    "check": actions.Action("pipeline.verbs.data.check", "what is wrong with a dataset, and its figures: lengths, steps, repetitions, answers",
                            "interlock data check models/student/data --tokenizer models/student/tokenizer"),
    "tokenizer": actions.Action("pipeline.verbs.data.tokenizer", "a byte-level BPE tokenizer of a dataset's own texts: same rows, same bytes",
                                "interlock data tokenizer models/student/data --vocab-size 320 --out models/student/tokenizer"),
    "teach": actions.Action("pipeline.verbs.data.teach", "a teacher's answers and log-probabilities, put beside the rows: kept as they come, resumed",
                            "interlock data teach my/data --teacher models/student/checkpoint --top-k 64 --out my/taught"),
    "record": actions.Action("pipeline.verbs.data.record", "real results of tools put among a dataset's fixtures, for evaluations to replay",
                             "interlock data record my/contextual results.jsonl --out my/recorded"),
}  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    actions.add_options(parser, ACTIONS)


def run(args: argparse.Namespace, session: Session) -> int:
    return actions.run(ACTIONS, args, session)
