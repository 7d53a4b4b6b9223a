"""`data check`: its options, and the document of what was found."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.command import Session, emit
from interlock.errors import ContractError, UsageError

if TYPE_CHECKING:
    from interlock.voice import Voice
    from pipeline.datasets.check import Checked, Encoding, Figures

SHOWN = 1000
"""Problems in the document; all are counted."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="dataset directory")
    parser.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="count tokens by a directory with tokenizer.json: a checkpoint, `data tokenizer`"
    )
    parser.add_argument("--max-tokens", type=int, metavar="N", help="a longer row is a problem (with --tokenizer)")


def run(args: argparse.Namespace, session: Session) -> int:
    from interlock.contracts import dataset, io
    from pipeline.datasets import check, tools

    if args.max_tokens is not None and args.tokenizer is None:
        raise UsageError("--max-tokens counts by no tokenizer", remedy="give --tokenizer too")
    contract = io.read_contract(args.dataset / dataset.FILE, dataset.DatasetContract)
    encoding = _encoding(args.tokenizer, args.max_tokens, session.voice) if args.tokenizer else None
    calls, wrong = tools.checker(args.dataset, contract.tools) if contract.tools else (None, ())
    found = check.check(args.dataset, contract, encoding, calls, session.voice)
    found.problems += wrong
    document = {"dataset": str(args.dataset), "task": contract.task, "digest": contract.digest, "licence": contract.licence, **_told(found)}
    if args.json:
        emit(document)
    else:
        from pipeline.reports import datasets

        datasets.show(document)
    return ContractError.exit_code if found.problems else 0


def _encoding(directory: Path, most: int | None, voice: Voice) -> Encoding:
    """The tokenizer of a checkpoint by its contract, or that of a directory, proven in a limited child. Raises ContractError."""
    from interlock.contracts import checkpoint, io
    from pipeline.datasets.check import Encoding
    from runtime.engine.tokenizer import Tokenizer

    if (directory / checkpoint.FILE).is_file():
        contract = io.read_contract(directory / checkpoint.FILE, checkpoint.CheckpointContract)
        if contract.tokenizer is None:
            raise UsageError(f"the checkpoint `{directory}` has no tokenizer", remedy="name a directory with tokenizer.json")
        loaded = Tokenizer.load(directory, contract.tokenizer)
    else:
        from pipeline.sources.tokenizer import from_huggingface

        with voice.task("prove the tokenizer"):
            files = from_huggingface(directory)
        loaded = Tokenizer(files.tokenizer_json, checkpoint.TokenizerInfo(sha256="0" * 64, vocab_size=files.vocab_size))
    return Encoding(loaded.encode, loaded.decode, most)


def _told(found: Checked) -> dict[str, Any]:
    problems = [{"file": one.file, "where": one.where, "expected": one.expected, "found": one.found} for one in found.problems[:SHOWN]]
    return {"splits": {name: _split(figures) for name, figures in found.splits.items()}, "problems": problems, "problem_count": len(found.problems)}


def _split(figures: Figures) -> dict[str, Any]:
    from pipeline.datasets.check import quantiles

    most = figures.answers.most_common(5)
    return {
        "rows": figures.rows,
        "repeated_prompts": figures.repeated,
        "characters": quantiles(figures.characters),
        "prompt_tokens": quantiles(figures.prompt_tokens),
        "tokens": quantiles(figures.tokens),
        "token_count": sum(figures.tokens) or None,
        "steps": quantiles(figures.steps),
        "answers": {"distinct": len(figures.answers), "most_common": [[text[:80], count] for text, count in most]} if most else None,
        "strata": dict(sorted(figures.strata.items(), key=lambda one: (len(one[0]), one[0]))),
    }
