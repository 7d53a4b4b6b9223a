"""Latent mode: whether it is wanted, and whether the model can.

Here: who switched it on, the training that it needs, its two tokens, the budget of the tier. Not here: running it (runtime/engine).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlock.contracts.checkpoint import TOKENIZER
from interlock.contracts.package import LATENT
from pipeline.doctor.artifact import Artifact, reached
from pipeline.doctor.finding import Finding, error, info, warning
from pipeline.doctor.place import Place

TOKENS = {"bot_id": "<bot>", "eot_id": "<eot>"}
MAX_TOKENIZER_BYTES = 64 << 20  # as runtime/engine/tokenizer.py reads


def latent_mode(place: Place) -> Iterator[Finding]:
    artifact = place.artifact
    missing = []
    if artifact.tokenizer:
        ids = _tokens(artifact.tokenizer[0])
        told = {text: reached(artifact.tokenizer[1], field) for field, text in TOKENS.items()}
        missing = [text for text in TOKENS.values() if ids.get(text) is None]
        yield from _tokenizer(artifact, ids, told)
    manifest = artifact.documents.get("deployment")
    if manifest is None or artifact.config is None:
        return
    able, wanted, who = manifest.at("capabilities", "latent_reasoning") is True, *_wanted(artifact)
    trained = artifact.documents["export"].at("training", "latent") if "export" in artifact.documents else None
    if trained is not None and LATENT not in artifact.functions and artifact.package_folder is not None:
        yield warning(
            f"the model has latent training, and the saved package has no function `{LATENT}`",
            expected=f"functions decode and {LATENT}",
            remedy="convert the export again in layout multifunction: interlock convert --in EXPORT --out OUT",
            evidence=str(artifact.package_folder),
        )
    elif not able and not wanted:
        yield info("latent mode is off, and the model has no latent training", str(manifest.file))
    elif not able:
        yield error(
            "latent mode is on, and the model has no latent training",
            expected="a model trained with latent slots (/capabilities/latent_reasoning)",
            remedy="unset LATENT_MODE" if who == "LATENT_MODE" else "deploy again without --latent-mode, or a checkpoint that was trained for it",
            evidence=f"{who}, {manifest.file}",
        )
    elif not wanted:
        remedy = "export LATENT_MODE=1, or deploy with --latent-mode"
        yield warning("the model has latent training, and latent mode is off", expected="latent mode on", remedy=remedy, evidence=who)
    elif missing:
        yield error(
            f"latent mode is on, and the tokenizer has no {' and no '.join(missing)}",
            expected="both tokens, between which a latent span lies",
            remedy="import the checkpoint again with a tokenizer that has them: interlock import SOURCE --tokenizer DIR",
            evidence=str(artifact.directory / TOKENIZER),
        )
    else:
        yield from _beyond(artifact, trained)
        yield from _budget(artifact, who)


def _beyond(artifact: Artifact, trained: object) -> Iterator[Finding]:
    """A configuration that asks for spans that were not trained: loading refuses it."""
    assert artifact.config
    limits = {"curriculum_slots": reached(trained, "slots_per_step"), "max_latent_length": reached(trained, "max_slots")}
    for field, limit in limits.items():
        value, exact = artifact.config.at(field), field == "curriculum_slots"
        if isinstance(value, int) and isinstance(limit, int) and (value > limit or (exact and value < limit)):
            yield error(
                f"{field} is {value}, and the model was trained with {limit}",
                expected=str(limit) if exact else f"at most {limit}",
                remedy=f"set {field} to {limit}, or deploy again: a new deployment has the limits of its training",
                evidence=str(artifact.config.file),
            )


def _wanted(artifact: Artifact) -> tuple[bool, str]:
    """Whether latent mode is on, and who says so: the variable wins over the file."""
    assert artifact.config
    configured = artifact.config.at("latent_mode_enabled") is True
    if "LATENT_MODE" in os.environ:
        return os.environ["LATENT_MODE"].lower() in ("1", "true", "yes", "on", "y", "t"), "LATENT_MODE"
    return configured, f"{artifact.config.file} at /latent_mode_enabled"


def _tokens(file: Path) -> dict[str, int]:
    """The ids of added tokens by their text."""
    try:
        if file.stat().st_size > MAX_TOKENIZER_BYTES:
            return {}
        added = reached(json.loads(file.read_bytes()), "added_tokens")
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(reached(token, "content")): reached(token, "id") for token in added} if isinstance(added, list) else {}


def _tokenizer(artifact: Artifact, ids: dict[str, int], told: dict[str, Any]) -> Iterator[Finding]:
    file = str(artifact.directory / TOKENIZER)
    wrong = [f"{text} is {ids.get(text)} in the file and {told[text]} in the contract" for text in told if ids.get(text) != told[text]]
    if wrong:
        again = "import the checkpoint again: interlock import SOURCE --tokenizer DIR"
        yield error("; ".join(wrong), expected="the same ids", remedy=again, evidence=file)
    elif all(ids.get(text) is not None for text in told):
        yield info(", ".join(f"{text} is {ids[text]}" for text in told), file)
    else:
        yield info("the tokenizer has no tokens for latent spans", file)


def _budget(artifact: Artifact, who: str) -> Iterator[Finding]:
    """A tier, a limit or a probability that leaves nothing of it."""
    from runtime.config import CawsTier

    assert artifact.config
    config = artifact.config
    tier = config.at("caws_tier")
    spans = [config.at("max_latent_spans"), CawsTier(tier).max_latent_spans if tier in [each.value for each in CawsTier] else None]
    nothing = [
        *([f"caws_tier {tier} allows no latent span"] if spans[1] == 0 else []),
        *(["max_latent_spans is 0"] if spans[0] == 0 else []),
        *(["curriculum_probability is 0"] if config.at("curriculum_probability") == 0 else []),
    ]
    if nothing:
        remedy = "export CAWS_TIER=tier_2 (or tier_3), MAX_LATENT_SPANS=1, CURRICULUM_P=1, whichever is named"
        yield warning(f"latent mode is on, but {' and '.join(nothing)}", expected="room for a latent span", remedy=remedy, evidence=str(config.file))
    else:
        yield info(f"latent mode is on, by {who}", str(config.file))
