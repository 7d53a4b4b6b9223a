"""Answers of a whole model: configuration, latent spans, halting, attempts and judges together. `load(DIR)` is where a script begins.

Here: that function. Not here: what it returns (inference.py); nothing heavy is imported before it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.load import BackendName
    from runtime.orchestration.inference import InferenceOrchestrator


def load(
    directory: str | Path,
    *,
    backend: BackendName = "eager",
    config: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    **fields: Any,
) -> InferenceOrchestrator:
    """A deployed directory or a checkpoint, ready to answer.

    config: a configuration file in place of the directory's own; environ: variables that stand over it (`os.environ`), none by default; fields: of
    the configuration, over everything but the tier. Raises ContractError, UsageError and EnvironmentRefused as `interlock infer` does.
    """
    from runtime.orchestration.inference import opened

    return opened(Path(directory), backend, config=Path(config) if config else None, environ=environ, given=fields)
