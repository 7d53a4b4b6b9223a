"""`latent`: every item in latent spans that end by themselves, and in text, by the same model.

Here: the spans, the two questions. Not here: what is made of the answers (scoring/latent.py).
"""

from __future__ import annotations

from pathlib import Path

from eval.answers import Answered
from eval.asking import Ask, Settings
from eval.items import Item
from eval.runners.deployment import answer
from interlock.errors import UsageError
from runtime.engine.latent import LatentParams
from runtime.latent_mode import latent_params
from runtime.load import Loaded, load
from runtime.orchestration.inference import configured


def opened(settings: Settings) -> Ask:
    model = settings.deployed
    return asker(load(model.directory, model.backend, mode=model.mode), model.directory, settings.max_new_tokens)


def asker(loaded: Loaded, directory: Path, max_new_tokens: int) -> Ask:
    """Raises ContractError and UsageError where the model has no spans."""
    latent = spans_of(loaded, directory)

    def ask(item: Item) -> dict[str, Answered]:
        return {"latent": answer(loaded, item, max_new_tokens, latent), "text": answer(loaded, item, max_new_tokens)}

    return ask


def spans_of(loaded: Loaded, directory: Path) -> LatentParams:
    """Spans as the directory's own configuration says, `<bot>` after every prompt. Raises ContractError and UsageError where the model has none."""
    resolved = configured(loaded, directory, None, None, {"latent_mode_enabled": True, "curriculum_probability": 1.0}, "suite latent")
    if resolved.config.max_latent_spans == 0:
        problem = f"{resolved.config.caws_tier.value} with max_latent_spans {resolved.fields['max_latent_spans'].asked} allows no latent span"
        raise UsageError(problem, remedy="deploy with --caws-tier tier_2 or tier_3")
    return latent_params(resolved.config, loaded.info, loaded.training, str(directory))
