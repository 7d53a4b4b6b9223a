"""What a request comes to: the result as a document, and in a line for people.

Here: the fields of a result. Not here: what is counted (runtime/efficiency.py), writing files of many (batch.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from runtime.efficiency import Efficiency
from runtime.engine.turn import Generation
from runtime.infer.requests import Request
from runtime.orchestration.attempts import Refined
from runtime.orchestration.inference import InferenceOrchestrator, report

_REASONS = {
    "eos": "the model ended",
    "stop": "stop text",
    "complete": "nothing can follow",
    "halt": "the halt head ended it",
    "length": "--max-new-tokens reached",
    "position_limit": "no positions left",
    "interrupted": "interrupted",
}
_ENDS = {
    "judge_score_threshold": "the judge accepts it",
    "judge_score_and_delta_shrinking": "the judge accepts it, and changes get smaller",
    "halt_head_threshold": "the halt head says that it is complete",
    "max_loops_reached": "no loops left",
    "position_limit": "no positions left for another attempt",
    "interrupted": "interrupted",
}


def simple(request: Request, made: Generation, cost: Efficiency, asked: InferenceOrchestrator) -> dict[str, Any]:
    """Of one answer."""
    return _document(request, made, asked) | _efficiency(cost, asked)


def refined(request: Request, made: Refined, asked: InferenceOrchestrator) -> dict[str, Any]:
    """Of several attempts: the fields of the best one's answer, and what led to it under `refinement`."""
    found = dict(report(made, asked.config))
    del found["output"], found["efficiency"]
    return _document(request, made.answer.generation, asked) | {"refinement": found} | _efficiency(made.efficiency, asked)


def lines(results: list[dict[str, Any]], indent: int | None = None) -> bytes:
    """One JSON document after another."""
    return "".join(f"{json.dumps(result, ensure_ascii=False, indent=indent)}\n" for result in results).encode(errors="surrogatepass")


def told(made: Generation) -> str:
    """One answer, for people."""
    return ", ".join(_told(made))


def told_attempts(made: Refined) -> Iterator[str]:
    """Each attempt, and why no other followed."""
    for number, one in enumerate(made.attempts):
        score = f"score {one.verdict.score:.2f}" if one.verdict else "no judge"
        best = ", the answer" if number == made.best and len(made.attempts) > 1 else ""
        failed = f": {one.verdict.feedback}" if one.verdict and one.verdict.feedback else ""
        yield f"loop {number + 1}: {score}{best}{failed}"
    yield _ENDS[str(made.attempts[-1].decision.halt_reason)]


def _document(request: Request, made: Generation, asked: InferenceOrchestrator) -> dict[str, Any]:
    return {
        "id": request.id,
        "text": made.text,
        "tokens": list(made.tokens),
        "reason": made.reason,
        "prompt_tokens": made.prompt_tokens,
        "times": {"prefill_ms": made.prefill_ms, "first_token_ms": made.first_token_ms, "tokens_per_s": made.decode_tokens_per_s},
        **asked.form.result(made.text),
        **({"latent": made.latent.as_dict()} if made.latent else {}),
        "backend": asked.loaded.backend_name,
        "model_digest": asked.loaded.digest,
        "seed": asked.choices.seed,
    }


def _efficiency(cost: Efficiency, asked: InferenceOrchestrator) -> dict[str, Any]:
    return {"efficiency": cost.as_dict()} if asked.config.enable_efficiency_tracking else {}


def _told(made: Generation) -> Iterator[str]:
    forced = f" ({made.forced} of them without a choice)" if made.forced else ""
    yield f"{made.prompt_tokens} prompt tokens, {len(made.tokens)} generated{forced}"
    if made.latent is not None:
        yield made.latent.told()
    if made.first_token_ms is not None:
        yield f"first after {made.first_token_ms:.0f} ms"
    if made.decode_tokens_per_s is not None:
        yield f"{made.decode_tokens_per_s:.1f} tokens/s"
    yield _REASONS[made.reason]
