"""A deployed directory answers as its own configuration says, through the orchestrator: in latent spans where they are on, with the halt head where
it is obeyed.

Here: one prompt, one answer. Not here: the orchestrator (runtime/orchestration), the same directory in plain text (deployment.py), answers that are
refined (asking/refinement.py).
Temperature is 0 and the limit that of the suite; everything else of the configuration holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eval.answers import Answered
from eval.asking import Model
from eval.items import Item
from eval.runners.deployment import answered, of_item
from interlock.errors import UsageError
from runtime.engine.chat import template_of
from runtime.load import load
from runtime.orchestration.attempts import halt_probability
from runtime.orchestration.inference import ARGUMENT, InferenceOrchestrator, configured


@dataclass(frozen=True)
class Orchestrated:
    """A `Runner`."""

    orchestrator: InferenceOrchestrator

    def say(self, item: Item, messages: Sequence[Mapping[str, str]] | None = None) -> Answered:
        given = item.messages if messages is None else messages
        raw = messages is None and item.prompt is not None
        try:
            if not raw:
                template_of(self.orchestrator.loaded.tokenizer)  # without one the orchestrator would join the texts
            made = replace(self.orchestrator, raw=raw).generate(item.prompt if raw and item.prompt is not None else given)
        except UsageError as error:
            raise of_item(item, error) from None
        if made.reason == "interrupted":
            raise KeyboardInterrupt
        halt = halt_probability(self.orchestrator.loaded, made)
        return replace(answered(made), numbers={} if halt is None else {"halt_probability": (halt,)})


def opened(model: Model, max_new_tokens: int) -> Orchestrated:
    """Raises what `runtime.load.load` and `runtime.effective.resolve` raise."""
    loaded = load(model.directory, model.backend, mode=model.mode)
    given = {"temperature": 0.0, "max_new_tokens": max_new_tokens}
    return Orchestrated(InferenceOrchestrator(loaded, configured(loaded, model.directory, None, None, given, ARGUMENT)))
