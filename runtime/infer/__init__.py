"""Verb `infer`: text from a deployed directory or a checkpoint; one prompt, standard input, or a file of prompts; once, or until a judge is content.

Here: what happens from options to exit code. Not here: options (options.py), where requests come from (requests.py), fields of a result (results.py),
many at once (batch.py), answering (runtime/orchestration).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.command import Session, emit
from interlock.errors import UsageError
from interlock.fs import save_file
from interlock.voice import Voice
from runtime.infer import options
from runtime.infer.requests import Request, requests_of
from runtime.tools.options import Form, form_of

if TYPE_CHECKING:
    from runtime.load import Loaded
    from runtime.orchestration.inference import InferenceOrchestrator
    from runtime.orchestration.judges.opening import Asked
    from runtime.orchestration.judges.verdict import Judge


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="deployed directory (or an exported file in it), or checkpoint directory")
    options.add_request_options(parser)
    options.add_file_options(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace, session: Session) -> int:
    options.check(args)
    requests, form = requests_of(args), form_of(args)
    from runtime.load import load

    judges = _judges(args.judge)
    if args.threads:
        from runtime.kernels import threads

        threads.use(args.threads)
    directory = args.model.parent if args.model.suffix == ".pt" else args.model  # the guide names an exported file
    with session.voice.task(f"load {directory}"):
        loaded = load(directory, args.backend, weights=args.weights, units=args.compute_units, mode=args.mode)
    asked = orchestrator(args, loaded, directory, form, session.voice)
    judge = _opened(judges)
    if args.source:
        return _batch(args, requests, asked, judge, judges, session.voice)
    return _one(args, requests[0], asked, judge, session.voice)


def _judges(words: list[str]) -> list[Asked]:
    """Their module, with HTTP and TLS, only for who has one."""
    if not words:
        return []
    from runtime.orchestration.judges import opening

    return opening.read(words)


def _opened(judges: list[Asked]) -> Judge | None:
    if not judges:
        return None
    from runtime.orchestration.judges import opening

    return opening.opened(judges)


def orchestrator(args: argparse.Namespace, loaded: Loaded, directory: Path, form: Form, voice: Voice) -> InferenceOrchestrator:
    """The model with the configuration that holds: command line, environment, file, training. What was asked for and is cut is told.

    Raises UsageError and ContractError.
    """
    from runtime.effective import COMMAND_LINE
    from runtime.orchestration.inference import InferenceOrchestrator, configured
    from runtime.orchestration.parameters import Choices

    resolved = configured(loaded, directory, args.config, os.environ, options.given_fields(args), COMMAND_LINE)
    config = resolved.config
    if args.latent_mode_enabled and config.max_latent_spans == 0:
        problem = f"{config.caws_tier.value} with max_latent_spans {resolved.fields['max_latent_spans'].asked} allows no latent span"
        raise UsageError(problem, remedy="leave out --latent, or give --caws-tier tier_2 or tier_3")
    for surprise in resolved.surprises():
        voice.warn(surprise)
    choices = Choices(args.top_k, args.top_p, args.min_p, args.repetition_penalty, args.seed, tuple(args.stop), args.latent_slots, args.drafts)
    made = InferenceOrchestrator(loaded, resolved, choices, raw=args.raw, form=form)
    _ = made.params  # refuses what is out of range before anything is asked
    return made


def _one(args: argparse.Namespace, request: Request, asked: InferenceOrchestrator, judge: Judge | None, voice: Voice) -> int:
    from runtime.infer import results

    streaming = not args.json
    if args.refine:
        with voice.task("refine", total=asked.config.max_refinement_loops, unit="loops") as task:
            refined = asked.refine(request.messages, judge, lambda _: task.advance())
        answer, told = refined.answer.generation, [*results.told_attempts(refined)]
        interrupted = refined.attempts[-1].generation.reason == "interrupted"
        result = results.refined(request, refined, asked)
        if streaming:
            _write(answer.text)
    else:
        result, answer = _simple(request, asked, _write if streaming else None)
        interrupted, told = answer.reason == "interrupted", []
    if args.output:
        save_file(args.output, results.lines([result], indent=2))
    if args.json:
        emit(result)
    else:
        sys.stdout.write("\n")
        sys.stdout.flush()
        for line in (*told, results.told(answer)):
            voice.step(line)
    return 130 if interrupted else 0


def _simple(request: Request, asked: InferenceOrchestrator, on_text: Any = None) -> tuple[dict[str, Any], Any]:
    from runtime.efficiency import Meter
    from runtime.infer import results

    meter = Meter()
    made = asked.generate(request.messages, on_text)
    return results.simple(request, made, meter.read([made]), asked), made


def _batch(
    args: argparse.Namespace, requests: list[Request], asked: InferenceOrchestrator, judge: Judge | None, judges: list[Asked], voice: Voice
) -> int:
    from runtime import efficiency
    from runtime.infer import batch, results

    def answer(request: Request) -> dict[str, Any]:
        if args.refine:
            refined = asked.refine(request.messages, judge)
            made, result = refined.attempts[-1].generation, results.refined(request, refined, asked)
        else:
            result, made = _simple(request, asked)
        if made.reason == "interrupted":
            raise KeyboardInterrupt
        return result

    found = batch.run(requests, args.out, batch.ways_of(asked, [one.identity() for one in judges], args.refine), answer, voice)
    tokens = sum(len(result["tokens"]) for result in found)
    tracked = [result["efficiency"] for result in found if "efficiency" in result]
    summary = efficiency.summary(tracked) if tracked else None
    if args.json:
        emit({"requests": len(found), "generated_tokens": tokens, "out": str(args.out), **({"efficiency": summary} if summary else {})})
        return 0
    voice.step(f"{len(found)} prompts, {tokens} tokens → {args.out}")
    for line in efficiency.told(summary) if summary else ():
        voice.step(line)
    return 0


def _write(text: str) -> None:
    # The model's own words may hold control characters: a terminal must not obey them, a pipe gets them as they are.
    from interlock.voice import plain

    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
