"""The options of `infer`: of configuration fields, of a request, of the model, of files.

Here: their names, and the fields that were given. Not here: which source wins (runtime/effective.py), what is done (the verb).
An option of a configuration field has the field's name as its `dest`, and no default: what nobody gave is asked of the next source.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from interlock.errors import UsageError
from runtime.tools.options import add_form_options

_MODE_HELP = (
    "how reference computes: values rounded as a device stores them, not rounded, or with weights multiplied as they are stored (default: fast)"
)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """What runs the model."""
    backends = ["eager", "torchscript", "reference", "coreml"]
    told = "what runs the model; reference runs the .mlpackage itself, coreml gives it to Core ML on macOS (default %(default)s)"
    parser.add_argument("--backend", choices=backends, default="eager", help=told)
    parser.add_argument("--mode", choices=["fp16", "fp32", "fast"], help=_MODE_HELP)
    parser.add_argument("--compute-units", choices=["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"], help="what Core ML may run on (default: all)")
    told = "how eager holds them: exactly, rounded to bf16 or to 8-bit blocks, or in the source's own 4- or 8-bit codes (default %(default)s)"
    parser.add_argument("--weights", choices=["fp32", "bf16", "int8", "packed"], default="fp32", help=told)


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Many requests at once."""
    told = 'JSON lines, each {"prompt": …} or {"messages": […]}, with an optional "id"'
    parser.add_argument("--in", dest="source", type=Path, metavar="FILE", help=told)
    told = "with --in: results as JSON lines in the same order; the same command again goes on where one was killed"
    parser.add_argument("--out", type=Path, metavar="FILE", help=told)


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """What `infer` and the guide's entry share, configuration fields included."""
    parser.add_argument("--prompt", help="the user's message; without it, and without --in, it is read from standard input")
    parser.add_argument("--system", help="a system message before it")
    parser.add_argument("--raw", action="store_true", help="continue the text as it is, without the chat template")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="keep the most probable tokens with this mass (default %(default)s)")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="keep the K most probable tokens; 0 keeps all (default %(default)s)")
    parser.add_argument("--min-p", type=float, default=0.0, metavar="P", help="drop tokens below P times the most probable (default %(default)s)")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1 discourages what was said (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of sampling (default %(default)s)")
    told = "tokens guessed from the text so far and proven in one pass: the same answer, sooner where it repeats its prompt (default %(default)s)"
    parser.add_argument("--drafts", type=int, default=0, metavar="N", help=told)
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given several times")
    add_form_options(parser)
    told = "slots of each latent span (default: the halt head ends it, or the trained number)"
    parser.add_argument("--latent-slots", type=int, metavar="N", help=told)
    told = "answer again, with the last attempt and what a judge said of it, until an answer is good enough or the tier's loops are used up"
    parser.add_argument("--refine", "--use-refinement", action="store_true", help=told)
    told = "with --refine: a judge file, or contains:TEXT, matches:PATTERN, schema:FILE, command:WORDS; may be given several times"
    parser.add_argument("--judge", action="append", default=[], metavar="JUDGE", help=told)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write text, tokens, times and the reason for stopping as JSON")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all cores)")
    add_field_options(parser)


def add_field_options(parser: argparse.ArgumentParser) -> None:
    """The fields of a runtime configuration, and the file that has them. `curriculum_slots` has no option: a model takes but one value."""
    flag = argparse.BooleanOptionalAction
    parser.add_argument("--config", type=Path, metavar="FILE", help="a runtime configuration instead of the directory's")
    told = "reason in latent spans, of a model that was trained for them, or do not"
    parser.add_argument("--latent", dest="latent_mode_enabled", action=flag, default=None, help=told)
    parser.add_argument("--halt-head", dest="halt_head_enabled", action=flag, default=None, help="let the halt head end spans and answers, or do not")
    tiers = ["tier_1", "tier_2", "tier_3"]
    parser.add_argument("--caws-tier", "--tier", dest="caws_tier", choices=tiers, help="budget: at most 1, 2, 3 loops and 0, 1, 3 latent spans")
    told = "most attempts with --refine; the tier may allow fewer"
    parser.add_argument("--max-loops", dest="max_refinement_loops", type=int, metavar="N", help=told)
    told = "score, 0 to 1, from which on an answer is accepted"
    parser.add_argument("--judge-threshold", dest="judge_score_threshold", type=float, metavar="S", help=told)
    told = "probability from which on the halt head is obeyed"
    parser.add_argument("--halt-threshold", dest="halt_probability_threshold", type=float, metavar="P", help=told)
    told = "share of prompts after which a latent span is begun at once"
    parser.add_argument("--curriculum-probability", type=float, metavar="P", help=told)
    parser.add_argument("--max-latent-spans", type=int, metavar="N", help="most latent spans of a request; the tier may allow fewer")
    parser.add_argument("--max-latent-length", type=int, metavar="N", help="most slots of a span, at most those that were trained")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 is greedy")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="most tokens to generate")
    told = "tokens, passes, time and memory of each request in its result, and a summary of many; or not"
    parser.add_argument("--track-efficiency", dest="enable_efficiency_tracking", action=flag, default=None, help=told)


def given_fields(args: argparse.Namespace) -> dict[str, Any]:
    """The configuration fields that were given."""
    from runtime.config import RuntimeConfig

    return {name: value for name in RuntimeConfig.model_fields if (value := getattr(args, name, None)) is not None}


def check(args: argparse.Namespace) -> None:
    """What options must hold together, before anything is loaded. Raises UsageError."""
    if bool(args.source) != bool(args.out):
        raise UsageError("--in and --out go together", remedy="name both files, or give --prompt")
    if args.source and args.prompt is not None:
        raise UsageError("--prompt cannot be combined with --in", remedy="leave one of them out")
    if args.source and args.output:
        raise UsageError("--output is of one prompt, --out of many", remedy="leave --output out")
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads {args.threads}: at least one is needed", remedy="give a positive number")
    refining = {"--judge": args.judge, "--judge-threshold": args.judge_score_threshold, "--max-loops": args.max_refinement_loops}
    for name, value in refining.items() if not args.refine else ():
        if value not in (None, []):
            raise UsageError(f"{name} belongs to --refine", remedy="give both")
    if args.latent_slots is not None and not args.latent_mode_enabled:
        raise UsageError("--latent-slots belongs to --latent", remedy="give both")
    if args.tools is not None and args.refine:
        raise UsageError("--tools and --refine: a call is not tried again", remedy="leave one of them out")
    for target in filter(None, (args.out, args.output)):
        if not target.parent.is_dir():
            raise UsageError(f"the folder of `{target}` does not exist", remedy="make it, or name another file")
