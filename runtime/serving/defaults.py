"""How a request is generated that says nothing about it: as the runtime configuration of the directory says.

Here: from a configuration to parameters. Not here: the configuration (runtime/config.py), what a request changes (running.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runtime.config import RuntimeConfig
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import GenerationParams
from runtime.latent_mode import latent_params
from runtime.limits import usual_config
from runtime.load import Loaded


def default_params(loaded: Loaded, file: Path | None, directory: str, environ: Mapping[str, str]) -> GenerationParams:
    """Environment variables over the file, if one is named, or else the directory's own configuration. Raises ContractError and UsageError."""
    config = (RuntimeConfig.from_file(file) if file else loaded.config or usual_config(loaded.training)).with_environment(environ)
    head = loaded.training.halt if loaded.training else None
    reads_text = head is not None and head.reads == "sentence_end"
    return GenerationParams(
        SamplingParams(temperature=config.temperature),
        max_new_tokens=config.max_new_tokens,
        eos_ids=loaded.info.eos_ids,
        latent=latent_params(config, loaded.info, loaded.training, str(file or directory)) if config.latent_mode_enabled else None,
        halt_threshold=config.halt_probability_threshold if config.halt_head_enabled and reads_text else None,
    )
