"""`text`: one question, one answer."""

from __future__ import annotations

from eval.asking import Ask, Settings
from eval.runners.table import opened as runner


def opened(settings: Settings) -> Ask:
    model = runner(settings.model, settings.max_new_tokens)
    return lambda item: {"text": model.say(item)}
