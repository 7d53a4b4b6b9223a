"""Verb `eval`: its options, the suite's dataset, a shard's file of answers, the figures of what it made."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.shipped import read_suite, shipped
from eval.suite import Claim, Suite, changed, in_code_mode
from interlock.command import Session, emit
from interlock.errors import GateFailed, UsageError
from pipeline.verbs.quantities import bound, part

if TYPE_CHECKING:
    from pipeline.stages.eval import Params

BACKENDS = ("eager", "torchscript", "reference", "coreml")
# Of a runner that opens a deployed directory: what runs the model unless --backend says so. Core ML itself runs on macOS alone.
RUNNERS = {
    "deployment": "reference",
    "orchestrator": "eager",
    "coreml": "coreml" if sys.platform == "darwin" else "reference",
    "openai_http": None,
    "hf_local": None,
}
OVER_HTTP = ("model_name", "key_variable", "timeout_s", "retries", "plain_http")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="deployed directory that is asked; of runner openai_http the address of an endpoint, of hf_local a directory")
    parser.add_argument("suite", metavar="SUITE", help=f"{', '.join(shipped())}, or a suite of your own by its path (NAME.toml)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="evaluation directory to make (default: evaluations/SUITE beside the model; of an endpoint, here)"
    )
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="dataset with the items (default: the suite's own, made beside --out)")
    parser.add_argument(
        "--fixtures", type=Path, metavar="DIR", help="dataset whose tools and recorded results are replayed (default: the one with the items)"
    )
    parser.add_argument("--code-mode", action="store_true",
                        help="programs of the model call the tools, confined, beside direct calls: is it as good, for fewer tokens")  # fmt: skip
    parser.add_argument("--split", help="of the dataset (default: the suite's)")
    parser.add_argument("--n", type=int, metavar="N", help="ask no more items, chosen by a hash of their ids (default: the suite's number)")
    parser.add_argument("--runner", choices=list(RUNNERS), default="deployment",
                        help="deployment: in plain text; orchestrator: as the directory's own configuration says; coreml: the package, by "
                        "the reference off macOS; openai_http: a model behind an OpenAI-compatible address; hf_local: a directory, by transformers "
                        "(default %(default)s)")  # fmt: skip
    parser.add_argument(
        "--backend", choices=BACKENDS, help="what runs a deployed directory (default: reference, the package itself; of orchestrator eager)"
    )
    parser.add_argument("--mode", choices=["fp16", "fp32", "fast"], help="how reference computes (default: fast)")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="the other model of suites parity and perplexity: a deployed directory, or the checkpoint (default: the same directory)",
    )
    parser.add_argument(
        "--against-backend",
        choices=BACKENDS,
        help="what runs the other model (default: eager for the same directory and for a checkpoint, else as --backend)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes that answer at once; no answer depends on it (default: 2 with 2 cores, 1 for a toy)",
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="let the nodes of a Ray cluster answer: HOST:PORT of its head, or auto for the one of this machine"
    )
    parser.add_argument("--shard", type=part, metavar="I/N", help="ask the I-th of N parts alone, and write its answers into the folder --out")
    parser.add_argument("--answers", type=Path, nargs="+", default=[], metavar="FILE", help="answers that shards of the same run wrote")
    parser.add_argument("--gate", dest="gates", type=bound, action="append", default=[], metavar="NAME=LEAST",
                        help="what the lower end of a figure's interval must reach, beside and over the suite's; may be given again")  # fmt: skip
    parser.add_argument("--no-gates", action="store_true", help="claim nothing: the evaluation is published as inconclusive, whatever it shows")
    parser.add_argument("--confidence", type=float, default=0.95, metavar="P", help="of every interval, two-sided (default %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="most tokens and slots of an answer (default: the suite's)")
    parser.add_argument("--model-name", metavar="NAME", help="of an endpoint: what it calls the model")
    parser.add_argument("--key-variable", metavar="NAME", help="of an endpoint: environment variable with its key (default: OPENAI_API_KEY)")
    parser.add_argument("--timeout-s", type=float, metavar="S", help="of an endpoint: seconds for a whole answer (default: 300)")
    parser.add_argument("--retries", type=int, metavar="N", help="of an endpoint: further attempts where that may help (default: 4)")
    parser.add_argument("--plain-http", action="store_true", default=None, help="of an endpoint: let prompts travel to another machine unencrypted")
    parser.add_argument("--toy", action="store_true", help="allow toy artifacts and any interpreter; the contract says so")


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.driver import stage
    from pipeline.reports import evaluation as shown
    from pipeline.stages import eval as evaluating

    if not args.toy:
        session.admit("train")  # before anything that is named is looked at
    params = _params(args, session)
    if args.shard:
        return _shard(params, args.shard, session, as_json=args.json)
    try:
        report = stage.run(evaluating.STAGE, params, session.voice, session.argv)
    except GateFailed:
        if not args.json:  # what was found is as good to read where it does not ship
            shown.show_rejected(params.rejected_path)
        raise
    if args.json:
        told = json.loads((params.out / evaluating.SUMMARY).read_bytes())
        emit({**report.as_dict(), "summary": told})
    else:
        shown.show(report)
    return 0


def _params(args: argparse.Namespace, session: Session) -> Params:
    """Raises UsageError."""
    from pydantic import ValidationError

    from pipeline.stages import eval as evaluating

    suite = in_code_mode(read_suite(args.suite)) if args.code_mode else read_suite(args.suite)
    home = Path() if args.runner == "openai_http" else Path(os.path.normpath(Path(args.model) / os.pardir))
    out = args.out or home / "evaluations" / suite.name
    parity = suite.compares and not args.against
    try:
        gates = {name: Claim(at_least=least) for name, least in args.gates}
        chosen = changed(suite, items=args.n, split=args.split, max_new_tokens=args.max_new_tokens, gates=gates)
        chosen = Suite.model_validate({**dict(chosen), **({"gates": {}} if args.no_gates else {})})
        return evaluating.Params(
            out=out, toy=args.toy, **_asked(args), dataset=args.dataset or _made(suite, out, session), suite=chosen, mode=args.mode,
            fixtures=_fixtures(args, suite),
            against=args.against, against_backend=args.against_backend or ("eager" if parity else None), jobs=_jobs(args), ray=args.ray,
            answers=tuple(args.answers), confidence=args.confidence, again=" ".join(["interlock eval", *session.argv]),
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = {"items": "n"}.get(str(first["loc"][0]), str(first["loc"][0]).replace("_", "-"))
        raise UsageError(f"--{option} {first['input']}: {first['msg'].lower()}", remedy="see `interlock eval --help`") from None


def _fixtures(args: argparse.Namespace, suite: Suite) -> Path | None:
    if args.fixtures and not suite.has_tools:
        raise UsageError(f"suite `{suite.name}` asks without tools, and --fixtures names some", remedy="leave it out, or name contextual or tools")
    return args.fixtures  # type: ignore[no-any-return]


def _jobs(args: argparse.Namespace) -> int:
    """Two, because each holds a model in memory; a toy answers sooner than a process starts."""
    if args.jobs is not None:
        if args.ray:
            raise UsageError("--jobs says how many processes answer here, and with --ray none does", remedy="leave one of the two out")
        return int(args.jobs)
    return 1 if args.toy else min(2, os.cpu_count() or 1)


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    """Of whom it is asked, as parameters. Raises UsageError for options that belong to another runner, ValidationError."""
    from eval.asking import Endpoint, Foreign

    backend = RUNNERS[args.runner]
    given = {name: value for name in OVER_HTTP if (value := getattr(args, name)) is not None}
    inside = [name for name in ("backend", "mode", "against", "against_backend") if getattr(args, name) is not None] if backend is None else []
    if wrong := [*inside, *(given if args.runner != "openai_http" else ())]:
        raise UsageError(f"runner {args.runner} has no --{wrong[0].replace('_', '-')}", remedy="leave it out, or choose another --runner")
    if args.runner == "openai_http":
        if "model_name" not in given:
            raise UsageError("an endpoint has models by name, and none is named", remedy="add --model-name; GET …/v1/models lists them")
        return {"runner": args.runner, "other": Endpoint(url=args.model, model=given.pop("model_name"), **given)}
    if args.runner == "hf_local":
        return {"runner": args.runner, "other": Foreign(directory=Path(args.model))}
    return {"runner": args.runner, "deployment": Path(args.model), "backend": args.backend or backend}


def _made(suite: Suite, out: Path, session: Session) -> Path:
    """The suite's own dataset beside the evaluation: the one that lies there, if it is of the same task, seed and parameters. Raises UsageError."""
    from pipeline.verbs.suite_data import beside

    if suite.dataset is None:
        raise UsageError(f"suite `{suite.name}` has no dataset of its own", remedy="name one with --dataset DIR: `interlock data make` makes it")
    return beside(suite.dataset, out, session)


def _shard(params: Params, part: tuple[int, int], session: Session, *, as_json: bool) -> int:
    """Ask one part of the items, and leave its answers in a file of `--out`."""
    from eval.items import shard_of
    from interlock import journal
    from pipeline.stages import eval as evaluating

    index, shards = part
    ready = evaluating.prepare(params, session.voice)
    mine = [item for item in ready.items if shard_of(item.id, shards) == index - 1]
    file = params.out / f"{index}-of-{shards}.jsonl"
    with journal.opened(file) as kept:
        asked = evaluating.ask(params, ready, mine, kept, session.voice)
    if as_json:
        emit({"file": str(file), "run": ready.run, "items": len(mine), "asked": asked, "exit_code": 0})
    else:
        print(f"{file}: {len(mine)} of {len(ready.items)} items, {asked} asked now")
    return 0
