"""`latent`: every item in latent spans that end by themselves, and in text, by the same model.

Here: the spans, the two questions. Not here: what is made of the answers (scoring/latent.py).
"""

from __future__ import annotations

from dataclasses import replace

from eval.answers import Answered
from eval.asking import Ask, Settings
from eval.items import Item
from eval.runners.deployment import answer
from interlock.errors import UsageError
from runtime.engine.latent import LatentParams
from runtime.latent_mode import latent_params
from runtime.limits import usual_config
from runtime.load import Loaded, load


def opened(settings: Settings) -> Ask:
    model = settings.model
    return asker(load(model.directory, model.backend, mode=model.mode), settings.max_new_tokens)


def asker(loaded: Loaded, max_new_tokens: int) -> Ask:
    """Raises ContractError and UsageError where the model has no spans."""
    latent = spans_of(loaded)

    def ask(item: Item) -> dict[str, Answered]:
        return {"latent": answer(loaded, item, max_new_tokens, latent), "text": answer(loaded, item, max_new_tokens)}

    return ask


def spans_of(loaded: Loaded) -> LatentParams:
    """Spans as the directory's own configuration says, `<bot>` after every prompt. Raises ContractError and UsageError where the model has none."""
    config = (loaded.config or usual_config(loaded.training)).model_copy(update={"latent_mode_enabled": True})
    params = latent_params(config, loaded.info, loaded.training, "the runtime configuration")
    if params.max_spans == 0:
        problem = f"{config.caws_tier.value} with max_latent_spans {config.max_latent_spans} allows no latent span"
        raise UsageError(problem, remedy="deploy with --caws-tier tier_2 or tier_3")
    return replace(params, forced=1.0)
