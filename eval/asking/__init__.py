"""How an item is put to a model: one module for each way, all of them `opened` by one record of settings.

Here: the settings. Not here: the table of ways (table.py), a way itself, running many items (eval/running.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from eval.answers import Answered
from eval.items import Item
from eval.suite import Asking
from interlock.contracts.base import Frozen
from interlock.errors import UsageError

# Ways that want a model's words and nothing else of it: any runner will do.
SPOKEN = ("text", "tools", "code")
REMEDY = "choose a suite that asks by `text`, `tools` or `code`, or a runner that opens a deployed directory: deployment, orchestrator, coreml"
Ask = Callable[[Item], dict[str, Answered]]
"""The answers to an item by the name of each way in which it was asked."""


class Model(Frozen):
    """A deployed directory and what runs it. `mode`: of backend `reference`; `configured`: whether it answers as its own configuration says, or in
    plain text."""

    kind: Literal["deployment"] = "deployment"
    directory: Path
    backend: Literal["eager", "torchscript", "reference", "coreml"]
    mode: Literal["fp16", "fp32", "fast"] | None = None
    configured: bool = False


class Endpoint(Frozen):
    """A model behind an OpenAI-compatible address, such as http://127.0.0.1:8000/v1, by its name there. `key_variable`: the environment variable
    that holds the key, if it is set; `timeout_s`: of one attempt; `retries`: after the first; `plain_http`: whether prompts may go to other machines
    unencrypted."""

    kind: Literal["endpoint"] = "endpoint"
    url: str
    model: Annotated[str, Field(min_length=1, max_length=512)]
    key_variable: str = "OPENAI_API_KEY"
    timeout_s: Annotated[float, Field(gt=0, le=86400)] = 300.0
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    plain_http: bool = False


class Foreign(Frozen):
    """A directory as Hugging Face's libraries write it, run by them."""

    kind: Literal["foreign"] = "foreign"
    directory: Path


class Settings(Frozen):
    """Everything that a process needs to answer items. `against` is the second model of a comparison, `dataset` the directory of replayed tools,
    `judges` those of refinement, in words."""

    asks: Asking
    max_new_tokens: int
    model: Annotated[Model | Endpoint | Foreign, Field(discriminator="kind")]
    against: Model | None = None
    dataset: Path | None = None
    judges: tuple[str, ...] = ()

    @property
    def deployed(self) -> Model:
        """The model, of a way that looks inside. Raises UsageError for one that only answers."""
        if not isinstance(self.model, Model):
            raise UsageError(f"suites that ask by `{self.asks}` look inside a model, and this one only answers", remedy=REMEDY)
        return self.model
