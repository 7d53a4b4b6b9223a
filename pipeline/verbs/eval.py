"""Verb `eval`: its options, and the figures of what it made."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from interlock.command import Session
from pipeline.verbs.quantities import bound


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="deployed directory that is asked")
    parser.add_argument("dataset", type=Path, help="dataset directory with the items")
    parser.add_argument("--out", type=Path, default=Path("models/student/evaluation"), help="evaluation directory to make (default %(default)s)")
    parser.add_argument("--suite", choices=["latent"], default="latent", help="latent: every item in latent spans and in text (default %(default)s)")
    parser.add_argument("--split", default="test", help="of the dataset (default %(default)s)")
    parser.add_argument("--items", type=int, metavar="N", help="ask no more, chosen by a hash of their ids (default: all)")
    parser.add_argument("--backend", choices=["eager", "torchscript", "reference", "coreml"], default="reference",
                        help="what runs the model (default %(default)s: the package itself)")  # fmt: skip
    parser.add_argument("--mode", choices=["fp16", "fp32", "fast"], help="how reference computes (default: fast)")
    parser.add_argument("--gate", dest="gates", type=bound, action="append", default=[], metavar="NAME=LEAST",
                        help="what the lower end of a figure's interval must reach: latent_accuracy, latent_accuracy_deepest, text_accuracy or "
                        "passes_saved; may be given several times")  # fmt: skip
    parser.add_argument("--confidence", type=float, default=0.95, metavar="P", help="of every interval, two-sided (default %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="most tokens and slots of an answer (default %(default)s)")
    parser.add_argument("--toy", action="store_true", help="allow toy artifacts and any interpreter; the contract says so")


def run(args: argparse.Namespace, session: Session) -> int:
    from pydantic import ValidationError

    from eval.suites import latent
    from interlock.errors import UsageError
    from pipeline.driver import stage
    from pipeline.reports.ending import finish
    from pipeline.stages import eval as evaluating

    try:
        params = evaluating.Params(
            out=args.out, toy=args.toy, deployment=args.model, dataset=args.dataset, suite=args.suite, split=args.split, backend=args.backend,
            mode=args.mode, items=args.items, max_new_tokens=args.max_new_tokens, gates=dict(args.gates), confidence=args.confidence,
            again=" ".join(["interlock eval", *session.argv]),
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"--{option} {first['input']}: {first['msg'].lower()}", remedy="see `interlock eval --help`") from None
    code = finish(stage.run(evaluating.STAGE, params, session.voice, session.argv), as_json=args.json)
    if not args.json:
        for line in latent.told(json.loads((args.out / evaluating.SUMMARY).read_bytes())):
            session.voice.step(line)
    return code
