"""Verb `infer`: text from a deployed directory or a checkpoint; one prompt, standard input, or a file of prompts.

Here: options, where prompts come from and results go. Not here: opening the model (load.py), one generation (engine/turn.py).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.command import Session, emit
from interlock.errors import ContractError, UsageError, Violation
from interlock.fs import save_file
from interlock.voice import Voice
from runtime.tools.options import Form, add_form_options, form_of

if TYPE_CHECKING:
    from runtime.config import RuntimeConfig
    from runtime.engine.latent import LatentParams
    from runtime.engine.turn import Generation, GenerationParams
    from runtime.load import Loaded

MAX_PROMPT_BYTES = 64 << 20


@dataclass(frozen=True)
class Request:
    """One conversation to answer. `id` comes back with the result."""

    id: str
    messages: tuple[dict[str, str], ...]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="deployed directory (or an exported file in it), or checkpoint directory")
    add_generation_options(parser)
    parser.add_argument(
        "--in", dest="source", type=Path, metavar="FILE", help='JSON lines, each {"prompt": …} or {"messages": […]}, with an optional "id"'
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --in: results as JSON lines in the same order")
    parser.add_argument(
        "--backend",
        choices=["eager", "torchscript", "reference", "coreml"],
        default="eager",
        help="what runs the model; reference runs the .mlpackage itself, coreml gives it to Core ML on macOS (default %(default)s)",
    )
    parser.add_argument("--mode", choices=["fp16", "fp32", "fast"], help="how reference computes: values rounded as a device stores them, "
                        "not rounded, or with weights multiplied as they are stored (default: fast)")  # fmt: skip
    parser.add_argument("--compute-units", choices=["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"], help="what Core ML may run on (default: all)")
    parser.add_argument("--weights", choices=["fp32", "bf16", "int8", "packed"], default="fp32", help="how eager holds them: exactly, rounded "
                        "to bf16 or to 8-bit blocks, or in the source's own 4- or 8-bit codes (default %(default)s)")  # fmt: skip


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """What `infer` and the guide's entry share."""
    parser.add_argument("--prompt", help="the user's message; without it, and without --in, it is read from standard input")
    parser.add_argument("--system", help="a system message before it")
    parser.add_argument("--raw", action="store_true", help="continue the text as it is, without the chat template")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="most tokens to generate (default: the runtime configuration's, or 256)")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 is greedy (default: the runtime configuration's, or 0)")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="keep the most probable tokens with this mass (default %(default)s)")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="keep the K most probable tokens; 0 keeps all (default %(default)s)")
    parser.add_argument("--min-p", type=float, default=0.0, metavar="P", help="drop tokens below P times the most probable (default %(default)s)")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1 discourages what was said (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of sampling (default %(default)s)")
    parser.add_argument("--drafts", type=int, default=0, metavar="N", help="tokens guessed from the text so far and proven in one pass: the same "
                        "answer, sooner where it repeats its prompt (default %(default)s)")  # fmt: skip
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given several times")
    add_form_options(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write text, tokens, times and the reason for stopping as JSON")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a runtime configuration instead of the directory's")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all cores)")
    parser.add_argument("--latent", action="store_true", help="reason in a latent span before the answer: for a model that was trained for it "
                        "(default: the runtime configuration's)")  # fmt: skip
    parser.add_argument("--latent-slots", type=int, metavar="N", help="slots of each span (default: the halt head ends it, or the trained number)")
    parser.add_argument("--track-efficiency", action="store_true", help="add tokens, forward passes, time and peak memory to the result")


def run(args: argparse.Namespace, session: Session) -> int:
    _check_files(args)
    requests, form = _requests(args), form_of(args)
    from runtime.load import load

    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    directory = args.model.parent if args.model.suffix == ".pt" else args.model  # the guide names an exported file
    with session.voice.task(f"load {directory}"):
        loaded = load(directory, args.backend, weights=args.weights, units=args.compute_units, mode=args.mode)
    return answer(args, requests, loaded, form, session.voice)


def answer(args: argparse.Namespace, requests: list[Request], loaded: Loaded, form: Form, voice: Voice) -> int:
    """Generate for every request and write what was asked for. Returns the exit code."""
    params = form.hold(loaded.tokenizer, generation_params(args, loaded))
    if args.source:
        return _batch(args, requests, loaded, params, form, voice)
    streaming = not args.json
    started = time.monotonic()
    generation = _generate(requests[0], args, loaded, params, form, stream=streaming)
    result = _result(requests[0], generation, args, loaded, form, time.monotonic() - started)
    if args.output:
        save_file(args.output, _lines([result], indent=2))
    if args.json:
        emit(result)
    else:
        sys.stdout.write("\n")
        sys.stdout.flush()
        voice.step(_summary(generation))
    return 130 if generation.reason == "interrupted" else 0


def generation_params(args: argparse.Namespace, loaded: Loaded) -> GenerationParams:
    """Command line over environment variables over runtime configuration over defaults. Raises UsageError."""
    from runtime.config import RuntimeConfig
    from runtime.engine.sampling import SamplingParams
    from runtime.engine.turn import GenerationParams
    from runtime.limits import usual_config

    config = (RuntimeConfig.from_file(args.config) if args.config else loaded.config or usual_config(loaded.training)).with_environment(os.environ)
    temperature = config.temperature if args.temperature is None else args.temperature
    limit = config.max_new_tokens if args.max_new_tokens is None else args.max_new_tokens
    sampling = SamplingParams(temperature, args.top_k, args.top_p, args.min_p, args.repetition_penalty, args.seed)
    halts_at = config.halt_probability_threshold if config.halt_head_enabled and _reads_text(loaded) else None
    latent, ends = _latent(args, config, loaded), loaded.info.eos_ids
    return GenerationParams(sampling, limit, tuple(args.stop), ends, latent=latent, halt_threshold=halts_at, drafts=args.drafts)


def _reads_text(loaded: Loaded) -> bool:
    """Whether the halt head was taught to be read where a sentence or line ends; one that reads latent slots has no say about text."""
    head = loaded.training.halt if loaded.training else None
    return head is not None and head.reads == "sentence_end"


def _latent(args: argparse.Namespace, config: RuntimeConfig, loaded: Loaded) -> LatentParams | None:
    """Raises ContractError and UsageError for what the model was not trained for, and where the tier allows no span that was asked for."""
    from runtime.latent_mode import latent_params

    if args.latent_slots is not None and not args.latent:
        raise UsageError("--latent-slots belongs to --latent", remedy="give both")
    if not (args.latent or config.latent_mode_enabled):
        return None
    where = str(args.config or args.model)
    params = latent_params(config.model_copy(update={"latent_mode_enabled": True}), loaded.info, loaded.training, where, args.latent_slots)
    if args.latent and params.max_spans == 0:
        problem = f"{config.caws_tier.value} with max_latent_spans {config.max_latent_spans} allows no latent span"
        raise UsageError(problem, remedy="leave out --latent, or export CAWS_TIER=tier_2 (or tier_3)")
    return params


def _check_files(args: argparse.Namespace) -> None:
    if bool(args.source) != bool(args.out):
        raise UsageError("--in and --out go together", remedy="name both files, or give --prompt")
    if args.source and args.prompt is not None:
        raise UsageError("--prompt cannot be combined with --in", remedy="leave one of them out")
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads {args.threads}: at least one is needed", remedy="give a positive number")
    for target in filter(None, (args.out, args.output)):
        if not target.parent.is_dir():
            raise UsageError(f"the folder of `{target}` does not exist", remedy="make it, or name another file")


def _requests(args: argparse.Namespace) -> list[Request]:
    system = ({"role": "system", "content": args.system},) if args.system else ()
    if args.source:
        return [_with_system(request, system) for request in _read_requests(args.source)]
    prompt = args.prompt
    if prompt is None:
        if sys.stdin.isatty():
            sys.stderr.write("type the prompt, then end it with Ctrl-D\n")
        prompt = sys.stdin.read(MAX_PROMPT_BYTES)
    if not prompt.strip():
        raise UsageError("the prompt is empty", remedy="give --prompt TEXT, or text on standard input")
    return [Request("0", (*system, {"role": "user", "content": prompt}))]


def _with_system(request: Request, system: tuple[dict[str, str], ...]) -> Request:
    return request if not system or request.messages[0]["role"] == "system" else Request(request.id, (*system, *request.messages))


def _read_requests(path: Path) -> list[Request]:
    """Every line of a JSON lines file, or every violation in it. Raises ContractError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`{path}` cannot be read ({error})", remedy="name a JSON lines file in UTF-8") from None
    wrong, requests = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            requests.append(_request(json.loads(line), str(number)))
        except (ValueError, RecursionError) as error:
            wrong.append(Violation(str(path), f"line {number}", 'an object with "prompt" or "messages"', str(error)))
    if wrong or not requests:
        empty = Violation(str(path), "", "at least one request", "none")
        raise ContractError(*(wrong or [empty]), remedy='each line is a JSON object: {"prompt": "…"}')
    return requests


def _request(document: object, default: str) -> Request:
    if not isinstance(document, dict):
        raise ValueError(f"a JSON {type(document).__name__}")
    unknown = document.keys() - {"id", "prompt", "messages"}
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    messages = document.get("messages")
    if messages is None:
        messages = [{"role": "user", "content": document.get("prompt")}]
    valid = isinstance(messages, list) and messages and all(isinstance(m, dict) and m.keys() == {"role", "content"} for m in messages)
    if not valid or not all(isinstance(m["role"], str) and isinstance(m["content"], str) for m in messages):
        raise ValueError("no text prompt and no list of {role, content} messages")
    return Request(str(document.get("id", default)), tuple(messages))


def _generate(request: Request, args: argparse.Namespace, loaded: Loaded, params: GenerationParams, form: Form, *, stream: bool) -> Generation:
    from runtime.engine.chat import encode_chat
    from runtime.engine.generate import generate

    if form.tools:
        asked = form.ask(loaded.tokenizer, request.messages, params)
        ids, params = asked.prompt_ids, asked.params
    elif args.raw or loaded.tokenizer.chat_template is None:
        ids = loaded.tokenizer.encode_prompt("\n".join(message["content"] for message in request.messages))
    else:
        ids = encode_chat(loaded.tokenizer, request.messages)
    return generate(loaded.backend, loaded.tokenizer, ids, params, _write if stream else None)


def _write(text: str) -> None:
    # The model's own words may hold control characters: a terminal must not obey them, a pipe gets them as they are.
    from interlock.voice import plain

    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _batch(args: argparse.Namespace, requests: list[Request], loaded: Loaded, params: GenerationParams, form: Form, voice: Voice) -> int:
    results = []
    with voice.task("generate", total=len(requests), unit="prompts") as task:
        for request in requests:
            started = time.monotonic()
            task.note(request.id)
            generation = _generate(request, args, loaded, params, form, stream=False)
            if generation.reason == "interrupted":
                raise KeyboardInterrupt
            results.append(_result(request, generation, args, loaded, form, time.monotonic() - started))
            task.advance()
    save_file(args.out, _lines(results))
    tokens = sum(len(result["tokens"]) for result in results)
    if args.json:
        emit({"requests": len(results), "generated_tokens": tokens, "out": str(args.out)})
    else:
        voice.step(f"{len(results)} prompts, {tokens} tokens → {args.out}")
    return 0


def _result(request: Request, generation: Generation, args: argparse.Namespace, loaded: Loaded, form: Form, wall_s: float) -> dict[str, Any]:
    result: dict[str, Any] = {
        "id": request.id,
        "text": generation.text,
        "tokens": list(generation.tokens),
        "reason": generation.reason,
        "prompt_tokens": generation.prompt_tokens,
        "times": {"prefill_ms": generation.prefill_ms, "first_token_ms": generation.first_token_ms, "tokens_per_s": generation.decode_tokens_per_s},
        **form.result(generation.text),
        **({"latent": generation.latent.as_dict()} if generation.latent else {}),
        "backend": loaded.backend_name,
        "model_digest": loaded.digest,
        "seed": args.seed,
    }
    if args.track_efficiency:
        scale = 1 if sys.platform == "darwin" else 1024
        result["efficiency"] = {
            "generated_tokens": len(generation.tokens),
            "forward_passes": generation.passes,
            "wall_clock_time_ms": wall_s * 1e3,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale,
        }
    return result


def _lines(results: list[dict[str, Any]], indent: int | None = None) -> bytes:
    return "".join(f"{json.dumps(result, ensure_ascii=False, indent=indent)}\n" for result in results).encode(errors="surrogatepass")


def _summary(generation: Generation) -> str:
    return ", ".join(_summary_parts(generation))


def _summary_parts(generation: Generation) -> Iterator[str]:
    yield f"{generation.prompt_tokens} prompt tokens, {len(generation.tokens)} generated"
    if generation.latent is not None:
        yield generation.latent.told()
    if generation.first_token_ms is not None:
        yield f"first after {generation.first_token_ms:.0f} ms"
    if generation.decode_tokens_per_s is not None:
        yield f"{generation.decode_tokens_per_s:.1f} tokens/s"
    reasons = {
        "eos": "the model ended",
        "stop": "stop text",
        "complete": "nothing can follow",
        "halt": "the halt head ended it",
        "length": "--max-new-tokens reached",
        "position_limit": "no positions left",
        "interrupted": "interrupted",
    }
    yield reasons[generation.reason]
