"""Constrained decoding measured: its share of a token's time, forced tokens against none, and the validity of generated calls.

Here: the measurements. Not here: options and the table (constrained.py), schemas and tools that are drawn (tests/fakes/schemas.py).
Ratios are of runs side by side: each prompt is answered with forced tokens, token by token, and by as many free tokens, in random order.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from interlock.contracts.checkpoint import Arch, ModelArch, TokenizerInfo
from interlock.contracts.io import kind_of
from interlock.errors import UsageError
from pipeline.sources.opening import open_source
from runtime.backends.eager import EagerBackend, eager_from
from runtime.backends.held import Held
from runtime.backends.protocol import Backend, Step, Vector
from runtime.backends.tensors import as_array
from runtime.engine.constraints.compiled import compile_constraint
from runtime.engine.constraints.protocol import Constraint
from runtime.engine.generate import advance, generate
from runtime.engine.sampling import SamplingParams
from runtime.engine.tokenizer import Tokenizer
from runtime.engine.turn import GenerationParams, Turn
from runtime.load import load
from runtime.tools.calls import parse_reply
from runtime.tools.definitions import Choice, parse_tools
from runtime.tools.grammar import BLOCKS, LIST, reply_source
from runtime.tools.reply import Asked, ask_with_tools

PROMPTS = (
    "What is the weather in Paris in celsius?",
    "Search the web for the history of the bicycle, five results please.",
    "Open the file docs/readme.md.",
    "Is it going to rain in Oslo? Use fahrenheit.",
    "Find recent articles about halting in recurrent networks.",
    "Show me what is in config.yaml.",
)
TOOLS = [
    {"type": "function", "function": {"name": name, "description": told, "parameters": {
        "type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}}}
    for name, told, fields in (
        ("get_weather", "the weather of a city", {"city": {"type": "string", "maxLength": 40}, "unit": {"enum": ["celsius", "fahrenheit"]}}),
        ("search", "search the web", {"query": {"type": "string", "maxLength": 80}, "limit": {"type": "integer", "minimum": 1, "maximum": 10}}),
        ("read_file", "the text of a file", {"path": {"type": "string", "maxLength": 60}, "encoding": {"enum": ["utf-8", "latin-1"]}}),
    )
]  # fmt: skip


@dataclass
class Watched:
    """A constraint, and the seconds that were spent in it. `force`: whether it forces tokens, or leaves each to be chosen by itself."""

    inner: Constraint
    force: bool
    seconds: float = 0.0
    forced_tokens: int = 0

    def _timed(self, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        found = call()
        self.seconds += time.perf_counter() - start
        return found

    def mask(self, logits: Vector) -> None:
        self._timed(lambda: self.inner.mask(logits))

    def accept(self, token: int) -> None:
        self._timed(lambda: self.inner.accept(token))

    def forced(self) -> list[int]:
        tokens: list[int] = self._timed(self.inner.forced) if self.force else []
        self.forced_tokens += len(tokens)
        return tokens

    @property
    def may_end(self) -> bool:
        return self.inner.may_end

    @property
    def complete(self) -> bool:
        return self._timed(lambda: self.inner.complete)  # type: ignore[no-any-return]


@dataclass
class Runs:
    """Of one way: seconds from the end of the prompt to the end of the reply, and what happened in them, a value for each reply."""

    seconds: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    forced: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)


class Read:
    """A prompt that is read once; every reply begins behind it."""

    def __init__(self, backend: Backend[Any], tokenizer: Tokenizer, asked: Asked) -> None:
        self.backend, self.tokenizer, self.asked, self.cache = backend, tokenizer, asked, backend.new_cache()
        self._step = advance(backend, self.cache, asked.prompt_ids)

    def step(self) -> Step:
        self.cache.rewind(len(self.asked.prompt_ids))
        return replace(self._step, logits=self._step.logits.copy())


def times(spec: str, rounds: int, threads: int) -> dict[str, Any]:
    """Shares and ratios on a real model, greedy, a required call of one of three tools. Raises what `load` and `open_source` raise."""
    torch.set_num_threads(threads)
    backend, tokenizer = _opened(spec)
    tools = parse_tools(TOOLS)
    params = GenerationParams(max_new_tokens=200, eos_ids=tokenizer.info.eos_ids)
    first, again = _compiling(tokenizer, tools)
    asked = [
        ask_with_tools(tokenizer, [{"role": "user", "content": prompt}], tools, params, choice=Choice("required"), parallel=False)
        for prompt in PROMPTS
    ]
    runs = {name: Runs() for name in ("forced", "alone", "free")}
    order = random.Random(0)  # noqa: S311
    for one in asked:
        read = Read(backend, tokenizer, one)
        _answer(read, "forced", Runs(), 0)  # warm
        for _ in range(rounds):
            ways = ["forced", "alone"]
            order.shuffle(ways)
            for way in ways:
                _answer(read, way, runs[way], 0)
            _answer(read, "free", runs["free"], runs["forced"].tokens[-1])
    forced, alone = runs["forced"], runs["alone"]
    return {
        "model": spec,
        "threads": threads,
        "rounds": rounds,
        "cost": {
            "share": _share(forced),
            "share_alone": _share(alone),
            "us_per_token": _spread([1e6 * held / tokens for held, tokens in zip(forced.held, forced.tokens, strict=True)]),
            "compile_ms": 1e3 * first,
            "again_ms": 1e3 * again,
        },
        "saved": {
            "forced": sum(forced.forced) / sum(forced.tokens),
            "tokens": sum(forced.tokens),
            "passes": sum(forced.passes),
            "passes_alone": sum(alone.passes),
            "ratio": _ratio(alone, forced),
            "ratio_free": _ratio(runs["free"], forced),
        },
    }


def validity(calls: int) -> dict[str, Any]:
    """At least so many calls of generated tools by a model with random weights at temperature 1, checked by `jsonschema`."""
    import jsonschema
    from fakes.byte_tokenizer import byte_tokenizer
    from fakes.schemas import random_tools

    from runtime.student.checkpoint import random_student

    tokenizer = byte_tokenizer()
    arch = Arch(d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, d_head=16, d_ff=32, vocab_size=tokenizer.vocab_size, rope_theta=1e4, norm_eps=1e-5,
                tie_embeddings=False, max_position=8192)  # fmt: skip
    backend = eager_from(random_student(arch, ModelArch(), seed=1))
    made, valid, replies = 0, 0, 0
    while made < calls:
        tools = parse_tools(random_tools(random.Random(replies)))  # noqa: S311
        params = GenerationParams(SamplingParams(temperature=1.0, seed=replies), 4000, eos_ids=tokenizer.info.eos_ids)
        source = reply_source(tokenizer, tools, Choice("required"), BLOCKS if replies % 3 else LIST, parallel=replies % 2 == 0)
        assert source
        held = replace(params, constraint=compile_constraint(tokenizer, source))
        reply = parse_reply(generate(backend, tokenizer, tokenizer.encode("Call:"), held).text)
        schemas = {tool.name: tool.parameters for tool in tools}
        sound = [
            call for call in reply.calls if call.name in schemas and jsonschema.Draft202012Validator(schemas[call.name]).is_valid(call.arguments)
        ]
        json.dumps([call.arguments for call in sound])
        made, valid, replies = made + max(len(reply.calls), 1), valid + len(sound), replies + 1
    return {"validity": {"calls": made, "valid": valid, "replies": replies}}


def _opened(spec: str) -> tuple[Backend[Any], Tokenizer]:
    """The eager backend over a deployed directory or checkpoint, or over whatever `interlock import` takes."""
    if Path(spec).is_dir() and kind_of(Path(spec)) is not None:
        loaded = load(spec)
        return loaded.backend, loaded.tokenizer
    foreign = open_source(spec)
    files = foreign.tokenizer
    if files is None:
        raise UsageError(f"`{spec}` carries no tokenizer", remedy="benchmark a deployed directory, a checkpoint or a GGUF file")
    digest = hashlib.sha256(files.tokenizer_json).hexdigest()
    info = TokenizerInfo(sha256=digest, vocab_size=files.vocab_size, bos_id=files.bos_id, eos_ids=files.eos_ids, add_bos=files.add_bos)
    tokenizer = Tokenizer(files.tokenizer_json, info, chat_template=files.chat_template)
    return EagerBackend(foreign.arch, foreign.model_arch, Held(lambda name: as_array(foreign.load(name)))), tokenizer


def _compiling(tokenizer: Tokenizer, tools: Any) -> tuple[float, float]:
    """Seconds of a first and of a second compilation; the tokenizer's table is made before."""
    seconds = []
    for offered in (tools[:1], tools, tools):
        source = reply_source(tokenizer, offered, Choice("required"), LIST)
        assert source
        start = time.perf_counter()
        compile_constraint(tokenizer, source)
        seconds.append(time.perf_counter() - start)
    return seconds[1], seconds[2]


def _answer(read: Read, way: str, runs: Runs, tokens: int) -> None:
    """tokens: of a free reply, which nothing ends before."""
    asked = read.asked
    assert asked.params.constraint
    begin, watched = asked.params.constraint, list[Watched]()

    def watching() -> Watched:
        watched.append(Watched(begin(), way == "forced"))
        return watched[0]

    free = replace(asked.params, constraint=None, max_new_tokens=max(tokens, 1), eos_ids=())
    params = free if way == "free" else replace(asked.params, constraint=watching)
    turn, step = Turn(read.tokenizer, asked.prompt_ids, params, read.backend.capacity), read.step()
    start = time.perf_counter()
    turn.take(step)
    while turn.reason is None:
        turn.take(advance(read.backend, read.cache, turn.inputs))
    runs.seconds.append(time.perf_counter() - start)
    made = turn.result()
    runs.tokens.append(len(made.tokens))
    runs.passes.append(made.passes - 1)
    runs.held.append(watched[0].seconds if watched else 0.0)
    runs.forced.append(watched[0].forced_tokens if watched else 0)


def _share(runs: Runs) -> dict[str, float]:
    return _spread([held / (seconds - held) for held, seconds in zip(runs.held, runs.seconds, strict=True)])


def _ratio(slow: Runs, fast: Runs) -> dict[str, float]:
    return _spread([one / other for one, other in zip(slow.seconds, fast.seconds, strict=True)])


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
