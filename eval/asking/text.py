"""`text`: one question, one answer."""

from __future__ import annotations

from eval.asking import Ask, Settings
from eval.runners.deployment import answer
from runtime.load import load


def opened(settings: Settings) -> Ask:
    model = settings.model
    loaded = load(model.directory, model.backend, mode=model.mode)
    return lambda item: {"text": answer(loaded, item, settings.max_new_tokens)}
