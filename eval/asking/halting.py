"""`halting`: every question with the halt head, and without it, by the same model."""

from __future__ import annotations

from eval.answers import Answered
from eval.asking import Ask, Settings
from eval.items import Item
from eval.runners.deployment import answer
from interlock.errors import UsageError
from runtime.load import load
from runtime.orchestration.inference import configured
from runtime.orchestration.parameters import reads_text


def opened(settings: Settings) -> Ask:
    """Raises UsageError where the model has no halt head that reads sentence and line ends."""
    model = settings.deployed
    loaded = load(model.directory, model.backend, mode=model.mode)
    if not reads_text(loaded):
        raise UsageError(f"`{model.directory}` has no halt head that reads sentence ends", remedy="deploy one that has: interlock build smollm2-halt")
    threshold = configured(loaded, model.directory, None, None, None, "suite halting").config.halt_probability_threshold

    def ask(item: Item) -> dict[str, Answered]:
        most = settings.max_new_tokens
        halted = answer(loaded, item, most, halt=threshold)
        # greedy: what the head did not end is word for word what is said without it
        return {"halting": halted, "text": answer(loaded, item, most) if halted.reason == "halt" else halted}

    return ask
