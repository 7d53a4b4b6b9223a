"""Stage `smoke`: a deployed directory in, an evaluation out: what the model says to a few prompts, and whether it says anything.

Here: the prompts and the record of the answers. Not here: loading and running a model (interlock's runtime).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

import interlock
from interlock.contracts.evaluation import RESULTS, Decoding, GateResult, Subject
from interlock.fs import Workspace
from interlock.voice import Voice
from pipeline.driver import stage
from pipeline.driver.stage import Outcome

if TYPE_CHECKING:
    from runtime.load import Loaded

PROMPTS = ("What is the capital of France?", "Count from one to five.", "Write one short sentence about the sea.")


class Params(stage.Params):
    """`backend` runs the deployed files: `torchscript` the exported ones, `reference` the package itself."""

    deployment: Path
    prompts: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, max_length=100)] = PROMPTS
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 16
    backend: Literal["torchscript", "reference"] = "torchscript"


def work(params: Params, work: Workspace, voice: Voice) -> Outcome:
    from runtime.load import load

    with voice.task(f"load {params.deployment.name}"):
        model = load(params.deployment, params.backend)
    rows = []
    with voice.task("answer", len(params.prompts), "prompts") as task:
        for number, prompt in enumerate(params.prompts):
            rows.append({"id": f"{number:03}", "prompt": prompt, **_answer(model, prompt, params.max_new_tokens)})
            task.advance()
    work.write(RESULTS, "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    answered = sum(bool(row["tokens"]) for row in rows)
    return Outcome(_body(params, model, len(rows), answered))


STAGE = stage.Stage("smoke", "train", "evaluation", Params, work, __name__, inputs={"deployment": "deployment"})


def _answer(model: Loaded, prompt: str, limit: int) -> dict[str, Any]:
    from runtime.engine.chat import encode_chat
    from runtime.engine.generate import generate
    from runtime.engine.turn import GenerationParams

    if model.tokenizer.chat_template is None:
        ids = model.tokenizer.encode_prompt(prompt)
    else:
        ids = encode_chat(model.tokenizer, ({"role": "user", "content": prompt},))
    said = generate(model.backend, model.tokenizer, ids, GenerationParams(max_new_tokens=limit, eos_ids=model.info.eos_ids))
    # No times: an artifact says the same whenever it is made.
    return {"text": said.text, "tokens": list(said.tokens), "reason": said.reason}


def _body(params: Params, model: Loaded, items: int, answered: int) -> dict[str, Any]:
    deployed = interlock.open(params.deployment)
    passed: Literal["pass", "fail"] = "pass" if answered == items else "fail"
    claim = GateResult(
        name="answered",
        metric="prompts with an answer",
        claim="at least",
        threshold=items,
        measured=answered,
        low=answered,
        high=answered,
        confidence=0.95,
        method="count",
        n=items,
        verdict=passed,
    )
    return {
        "suite": "smoke",
        "subject": Subject(kind="deployment", name=f"deployment {deployed.digest[:12]}", digest=deployed.digest),
        "runner": "deployment",
        "backend": params.backend,
        "decoding": Decoding(temperature=0, seed=None, max_new_tokens=params.max_new_tokens),
        "prompts": hashlib.sha256((model.tokenizer.chat_template or "").encode()).hexdigest(),
        "items": items,
        "fixtures": None,
        "gates": (claim,),
        "verdict": passed,
    }
