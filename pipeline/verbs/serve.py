"""Verb `serve`: a deployed directory or a checkpoint as an OpenAI-compatible server, with a page to chat."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.command import Session, emit
from interlock.errors import UsageError

if TYPE_CHECKING:
    from runtime.serving.server import Settings

LAST_PORT = 65_535


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="deployed directory, or checkpoint directory")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default %(default)s: this machine only)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0 takes any that is free (default %(default)s)")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="a key on each line, one of which a request must bring")
    parser.add_argument("--model-name", metavar="NAME", help="what requests call the model (default: the directory's name)")
    parser.add_argument(
        "--backend", choices=["eager", "torchscript", "reference", "coreml"], default="eager", help="what runs the model (default %(default)s)"
    )
    parser.add_argument("--mode", choices=["fp16", "fp32", "fast"], help="how reference computes (default: fast)")
    parser.add_argument("--compute-units", choices=["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"], help="what Core ML may run on (default: all)")
    parser.add_argument("--weights", choices=["fp32", "bf16", "int8", "packed"], default="fp32", help="how eager holds them: exactly, rounded "
                        "to bf16 or to 8-bit blocks, or in the source's own 4- or 8-bit codes (default %(default)s)")  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="a runtime configuration instead of the directory's")
    parser.add_argument("--judge", action="append", default=[], metavar="JUDGE", help="of answers to requests with `refine`: a judge file, or "
                        "contains:TEXT, matches:PATTERN, schema:FILE, command:WORDS; may be given several times")  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all cores)")
    parser.add_argument("--drafts", type=int, default=0, metavar="N", help="tokens guessed from the text so far and proven in one pass where one "
                        "generation runs alone: the same answer, sooner where it repeats its prompt (default %(default)s)")  # fmt: skip
    parser.add_argument("--parallel", type=int, default=8, metavar="N", help="generations that take turns (default %(default)s)")
    parser.add_argument("--queue", type=int, default=64, metavar="N", help="generations that may wait; more get status 429 (default %(default)s)")
    parser.add_argument("--prefix-cache-mb", type=int, default=512, metavar="MB",
                        help="memory for prompts that begin as an earlier one did; 0 keeps none (default %(default)s)")  # fmt: skip
    parser.add_argument(
        "--request-timeout", type=float, default=300.0, metavar="S", help="the most that one request is generated for (default %(default)s)"
    )
    parser.add_argument("--shutdown-timeout", type=float, default=30.0, metavar="S",
                        help="how long running requests may go on after SIGTERM or Ctrl-C (default %(default)s)")  # fmt: skip


def run(args: argparse.Namespace, session: Session) -> int:
    _check(args)
    from runtime.effective import COMMAND_LINE
    from runtime.load import load
    from runtime.orchestration.inference import InferenceOrchestrator, configured
    from runtime.orchestration.judges import opening
    from runtime.orchestration.parameters import Choices, generation_params
    from runtime.serving import server
    from runtime.serving.running import Model

    judges = opening.read(args.judge)
    settings = _settings(args)
    bound = server.bind(settings)  # before minutes of loading
    if args.threads:
        from runtime.kernels import threads

        threads.use(args.threads)
    with session.voice.task(f"load {args.model}"):
        loaded = load(args.model, args.backend, weights=args.weights, units=args.compute_units, mode=args.mode)
    name = args.model_name or args.model.absolute().name
    resolved = configured(loaded, args.model, args.config, os.environ, None, COMMAND_LINE)
    for surprise in resolved.surprises():
        session.voice.warn(surprise)
    params, rules = generation_params(loaded, resolved.config, Choices(drafts=args.drafts)), InferenceOrchestrator(loaded, resolved).rules
    model = Model(name, loaded, params, rules, opening.opened(judges) if judges else None)
    url = server.url_of(bound)

    def ready() -> None:
        if args.json:
            emit({"url": url, "model": name, "digest": loaded.digest, "backend": loaded.backend_name, "pid": os.getpid()})
        session.voice.step(f"{name} answers at {url}/v1, and to people at {url}/ (Ctrl-C stops it)")

    server.serve(model, settings, bound, session.voice, ready)
    return 0


def _check(args: argparse.Namespace) -> None:
    least = {"port": 0, "parallel": 1, "queue": 0, "prefix_cache_mb": 0, "request_timeout": 0.1, "shutdown_timeout": 1, "threads": 1, "drafts": 0}
    for name, bound in least.items():
        value = getattr(args, name)
        if value is not None and not value >= bound:
            raise UsageError(f"--{name.replace('_', '-')} {value}: at least {bound} is needed", remedy="give a greater number")
    if args.port > LAST_PORT:  # the system would take the rest of a division
        raise UsageError(f"--port {args.port}: the highest is {LAST_PORT}", remedy="give a smaller number; 0 takes any port that is free")


def _settings(args: argparse.Namespace) -> Settings:
    from runtime.engine.scheduler import Limits
    from runtime.serving.gate import read_keys
    from runtime.serving.server import Settings

    return Settings(
        host=args.host,
        port=args.port,
        limits=Limits(running=args.parallel, waiting=args.queue, kept_bytes=args.prefix_cache_mb << 20),
        request_s=args.request_timeout,
        shutdown_s=args.shutdown_timeout,
        keys=read_keys(args.api_key_file) if args.api_key_file else (),
    )
