"""How one answer is generated: what follows from the configuration that holds, a request's own choices, and the model.

Here: the parameters of the token loop. Not here: the configuration (runtime/effective.py), spans (runtime/latent_mode.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.config import RuntimeConfig
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import GenerationParams
from runtime.latent_mode import latent_params
from runtime.load import Loaded


@dataclass(frozen=True)
class Choices:
    """What a request may say beside the configuration. latent_slots: of each span, None: the halt head ends it, or the trained number;
    drafts: tokens that are guessed and proven in one pass."""

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    latent_slots: int | None = None
    drafts: int = 0


def generation_params(loaded: Loaded, config: RuntimeConfig, choices: Choices) -> GenerationParams:
    """Raises UsageError for a value out of range, for slots that were not trained, and for a tokenizer without the two tokens of a span."""
    sampling = SamplingParams(config.temperature, choices.top_k, choices.top_p, choices.min_p, choices.repetition_penalty, choices.seed)
    latent = None
    if config.latent_mode_enabled:
        latent = latent_params(config, loaded.info, loaded.training, "the runtime configuration", choices.latent_slots)
    halts_at = config.halt_probability_threshold if config.halt_head_enabled and reads_text(loaded) else None
    ends = loaded.info.eos_ids
    return GenerationParams(sampling, config.max_new_tokens, choices.stop, ends, latent=latent, halt_threshold=halts_at, drafts=choices.drafts)


def reads_text(loaded: Loaded) -> bool:
    """Whether the halt head was taught to be read where a sentence or line ends; one that reads latent slots has no say about text."""
    head = loaded.training.halt if loaded.training else None
    return head is not None and head.reads == "sentence_end"
