"""Judge `model`: another model here, asked whether the answer is good; the score is how much surer it is of yes than of no.

Here: the question, and reading the answer off one step's probabilities. Not here: a model behind an address (endpoint.py).
One pass over the prompt and no generation: nothing to parse, and a graded score even from a model that would say the same word every time.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from interlock.contracts.base import Frozen
from interlock.errors import StageFailed, UsageError
from runtime.backends.protocol import Vector
from runtime.engine.tokenizer import Tokenizer
from runtime.load import Loaded
from runtime.orchestration.judges.verdict import Judge, Verdict
from runtime.orchestration.prompts import asked, encode

QUESTION = "Here is a request and an answer to it.\n\nRequest:\n{request}\n\nAnswer:\n{answer}\n\n{instructions} Reply with one word, yes or no."
INSTRUCTIONS = "Is the answer right and complete?"
PIECE = 128  # tokens: a quarter of a second of a 135M model on one slow core


class Model(Frozen):
    """directory: a deployed directory or a checkpoint, relative to the judge file. time_s: of one judgement."""

    kind: Literal["model"]
    directory: Annotated[str, Field(min_length=1)]
    backend: Literal["eager", "torchscript", "reference", "coreml"] = "eager"
    instructions: str = INSTRUCTIONS
    time_s: Annotated[float, Field(gt=0, le=3600)] = 120.0


def model(of: Loaded, instructions: str, time_s: float) -> Judge:
    """Raises UsageError for a tokenizer in which yes and no begin alike. The judge raises StageFailed where its time is over."""
    yes, no = first_tokens(of.tokenizer)

    def judge(request: str, answer: str) -> Verdict:
        words = QUESTION.format(request=request, answer=answer, instructions=instructions)
        ids = encode(of.tokenizer, asked(words))
        if len(ids) > of.backend.capacity:
            return Verdict(0.0, "It is too long to be judged.", 1, {"tokens": len(ids)})
        score = sureness(_last(of, ids, time_s), yes, no)
        return Verdict(score, "" if score >= 0.5 else "A reader did not find it right and complete.", int(score < 0.5), {"yes": score})

    return judge


def _last(of: Loaded, ids: list[int], time_s: float) -> Vector:
    """The logits after a prompt, which is given piece by piece: between two the clock is looked at."""
    end, cache = time.monotonic() + time_s, of.backend.new_cache()
    for start in range(0, len(ids), PIECE):
        if time.monotonic() > end:
            problem = f"the judge did not read {len(ids)} tokens within {time_s:g} s"
            raise StageFailed(problem, remedy="give it more (`time_s`), or a smaller model")
        step = of.backend.prefill(ids[start : start + PIECE], cache)
    return step.logits


def first_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids with which `yes` and `no` can begin, in any case, with and without a space before. Raises UsageError where one begins both."""
    yes, no = ({tokenizer.encode(f"{space}{form}")[0] for space in ("", " ") for form in forms} for forms in (("yes", "Yes"), ("no", "No")))
    # A bare space is a beginning of both where words have no space of their own: it says nothing.
    both = yes & no
    if not yes - both or not no - both:
        raise UsageError("in this tokenizer yes and no begin with the same tokens", remedy="take another model as the judge")
    return sorted(yes - both), sorted(no - both)


def sureness(logits: Vector, yes: list[int], no: list[int]) -> float:
    """P(yes) / (P(yes) + P(no)) of logits [V] fp32, each summed over its ids."""
    wide = logits.astype(np.float64)
    top = float(np.max(wide[[*yes, *no]]))
    for_yes, for_no = (float(np.exp(wide[ids] - top).sum()) for ids in (yes, no))
    return for_yes / (for_yes + for_no)
