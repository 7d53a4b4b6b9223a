"""`data teach`: its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from interlock.command import Session

TAILS = ("bucket", "zero", "symmetric_uniform")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="dataset directory")
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="DIR|URL",
        help="a checkpoint directory, or the address of an OpenAI-compatible endpoint, such as http://localhost:8000/v1",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="dataset directory to make")
    parser.add_argument("--split", dest="splits", action="append", metavar="NAME", help="rows to ask about; may be given again (default train)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="of the teacher's draws; 0 takes the likeliest (%(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the teacher's draws; sent to an endpoint, and recorded, only if it is given")
    parser.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="the most tokens of an answer (%(default)s)")
    parser.add_argument(
        "--top-k",
        type=int,
        default=0,
        metavar="K",
        help="keep K log-probabilities of each token, and the sum of the rest; an endpoint has at most 20 (%(default)s)",
    )
    parser.add_argument("--tail", choices=TAILS, default="bucket", help="what a loss shall assume of the rest (%(default)s)")
    parser.add_argument("--student", type=Path, metavar="DIR", help="refuse unless this checkpoint, or tokenizer, is one that the teacher's ids fit")
    parser.add_argument("--model", metavar="NAME", help="endpoint: which model")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="endpoint: its tokenizer.json, needed for --top-k")
    parser.add_argument(
        "--key-variable",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="endpoint: the environment variable that holds its key (%(default)s); the key is written nowhere",
    )
    parser.add_argument("--timeout-s", type=float, default=120.0, metavar="S", help="endpoint: seconds for a whole answer (%(default)s)")
    parser.add_argument("--retries", type=int, default=5, metavar="N", help="endpoint: further attempts where that may help (%(default)s)")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="endpoint: questions on their way at a time (%(default)s)")
    parser.add_argument("--max-requests", type=int, metavar="N", help="end after N questions; the same command goes on from there")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="end after N tokens of prompts and answers; the same command goes on from there")


def run(args: argparse.Namespace, session: Session) -> int:
    from interlock.contracts.strict import validate
    from interlock.errors import ContractError, UsageError
    from pipeline.driver import stage
    from pipeline.reports.ending import finish
    from pipeline.stages import teach

    given = {name: value for name in teach.Params.model_fields if (value := getattr(args, name, None)) is not None}
    try:
        params = validate(teach.Params, {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}, "", remedy="")
    except ContractError as error:
        wrong = error.violations[0]
        option = wrong.where.strip("/").split("/")[0].replace("_", "-")
        problem = f"--{option}: {wrong.expected[:1].lower()}{wrong.expected[1:]}, found {wrong.found}"
        raise UsageError(problem, remedy="see `interlock data teach --help`") from None
    return finish(stage.run(teach.STAGE, params, session.voice, session.argv), as_json=args.json)
