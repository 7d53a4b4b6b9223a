"""The table of runners.

Here: imports of all of them, so that the key of stage `eval` has their source. Not here: any runner.
"""

from __future__ import annotations

from eval.asking import Endpoint, Foreign, Model
from eval.runners import Runner, deployment, hf_local, openai_http, orchestrator


def opened(model: Model | Endpoint | Foreign, max_new_tokens: int) -> Runner:
    """The model, ready to be asked. max_new_tokens: the most of one answer. Raises what opening it raises."""
    if isinstance(model, Endpoint):
        return openai_http.opened(model, max_new_tokens)
    if isinstance(model, Foreign):
        return hf_local.opened(model, max_new_tokens)
    return orchestrator.opened(model, max_new_tokens) if model.configured else deployment.opened(model, max_new_tokens)
