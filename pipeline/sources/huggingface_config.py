"""`config.json` of Llama and its relatives, as an architecture.

Here: the named keys of each model type with their ranges, and what must not be asked for. Not here: tensors (huggingface.py). No transformers class
is asked: `auto_map`, `trust_remote_code` and every unnamed key are not read. Defaults are those of transformers' own configuration classes, for
files that leave a key out (transformers 5, models/*/configuration_*.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from interlock.contracts.checkpoint import Arch, RopeScaling
from interlock.contracts.io import open_regular
from interlock.contracts.strict import parse_json
from interlock.errors import refuse
from pipeline.sources.proofs import REMEDY, build_arch, shown

MAX_CONFIG = 1 << 20
SUPPORTED = "import a Llama, Qwen2, Qwen3, Mistral or SmolLM3 model with plain weights; others are not what the runtime computes"

# Fields of Arch and the key of each.
KEYS = {
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "d_head": "head_dim",
    "d_ff": "intermediate_size",
    "vocab_size": "vocab_size",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
    "max_position": "max_position_embeddings",
}
DEFAULTS: dict[str, object] = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "rope_theta": 10000.0}
# Keys that must have this value where they are present, since the runtime computes nothing else.
FIXED: dict[str, object] = {"hidden_act": "silu", "mlp_bias": False, "quantization_config": None}
PLAIN = {"attention_bias": False}  # Qwen2 has no such key: its query, key and value always have biases, its output never


@dataclass(frozen=True)
class Family:
    """One model type. adds: fields of Arch; fixed: as FIXED; defaults: other than DEFAULTS."""

    adds: Mapping[str, object] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=lambda: PLAIN)
    defaults: Mapping[str, object] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(defaults={"num_key_value_heads": 8, "sliding_window": 4096}),
    "qwen2": Family(adds={"attention_bias": True}, fixed={}, defaults={"num_key_value_heads": 32, "max_window_layers": 28, "sliding_window": 4096}),
    "qwen3": Family(adds={"qk_norm": True}, defaults={"num_key_value_heads": 32, "head_dim": 128, "max_window_layers": 28, "sliding_window": 4096}),
    "smollm3": Family(defaults={"num_key_value_heads": 4, "tie_word_embeddings": True, "rope_theta": 2e6, "no_rope_layer_interval": 4}),
}


class _Config:
    """One document with its family's defaults. `refuse` speaks of a key of it."""

    def __init__(self, path: Path, document: Mapping[str, object], family: Family) -> None:
        self.path, self.given = path, {**DEFAULTS, **family.defaults, **document}

    def __getitem__(self, key: str) -> object:
        return self.given.get(key)

    def refuse(self, key: str, expected: str, found: object) -> Exception:
        return refuse(self.path, f"/{key}", expected=expected, found=found, remedy=SUPPORTED)


def read_arch(path: Path) -> Arch:
    """The architecture in a `config.json`. Raises ContractError for another model type, a setting that is not computed, a value out of range."""
    with open_regular(path) as file:
        document = parse_json(file.read(MAX_CONFIG + 1), str(path), limit=MAX_CONFIG, remedy=REMEDY)
    kind = document.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        found = shown(kind) if "model_type" in document else "nothing"
        raise refuse(path, "/model_type", expected=", ".join(f"`{name}`" for name in FAMILIES), found=found, remedy=SUPPORTED)
    family = FAMILIES[kind]
    config = _Config(path, document, family)
    for key, value in (FIXED | dict(family.fixed)).items():
        found = document.get(key, value)
        if found != value or type(found) is not type(value):
            raise config.refuse(key, shown(value), shown(found))
    fields = {name: config[key] for name, key in KEYS.items()} | dict(family.adds)
    if fields["n_kv_heads"] is None:  # all of them: as many as query heads
        fields["n_kv_heads"] = fields["n_heads"]
    d_model, n_heads = fields["d_model"], fields["n_heads"]
    if fields["d_head"] is None and type(d_model) is int and type(n_heads) is int and n_heads > 0 and d_model % n_heads == 0:
        fields["d_head"] = d_model // n_heads
    fields["rope_theta"], fields["rope_scaling"] = _rope(config)
    places = {name: f"/{key}" for name, key in KEYS.items()} | {"rope_theta": "/rope_theta", "sliding_window": "/sliding_window"}
    arch = build_arch(path, fields, places, remedy=SUPPORTED)
    unrotated = _unrotated(config, arch.n_layers) if kind == "smollm3" else ()
    window = _window(config, _sliding(config, kind, arch.n_layers, unrotated), arch) if kind != "llama" else None
    return build_arch(path, {**fields, "no_rope_layers": unrotated, "sliding_window": window}, places, remedy=SUPPORTED)


def _unrotated(config: _Config, n_layers: int) -> tuple[int, ...]:
    """SmolLM3's layers without rotation. `no_rope_layers` holds 1 for a layer that rotates; without it, each `no_rope_layer_interval`-th does not."""
    flags, interval = config["no_rope_layers"], config["no_rope_layer_interval"]
    if flags is None:
        if type(interval) is not int or interval < 1:
            raise config.refuse("no_rope_layer_interval", "an integer of 1 or more", shown(interval))
        return tuple(range(interval - 1, n_layers, interval))
    if not isinstance(flags, list) or len(flags) < n_layers or any(type(flag) is not int or flag not in (0, 1) for flag in flags):
        raise config.refuse("no_rope_layers", f"0 or 1 for each of {n_layers} layers", shown(flags))
    return tuple(layer for layer in range(n_layers) if not flags[layer])


def _sliding(config: _Config, kind: str, n_layers: int, unrotated: Sequence[int]) -> list[bool]:
    """Which layers attend to a window: what `layer_types` says, or what the family's other keys make of it."""
    uses = config["use_sliding_window"]
    if uses is not None and not isinstance(uses, bool):
        raise config.refuse("use_sliding_window", "true or false", shown(uses))
    uses = (uses or kind == "mistral") and config["sliding_window"] is not None
    slides: Sequence[int] = range(n_layers)
    if kind == "smollm3":
        slides = unrotated
    elif kind != "mistral" and uses:
        full = config["max_window_layers"]
        if type(full) is not int or full < 0:
            raise config.refuse("max_window_layers", "how many layers have no window", shown(full))
        slides = range(full, n_layers)
    rule = [bool(uses) and layer in slides for layer in range(n_layers)]
    types = config["layer_types"]
    if types is None:
        return rule
    known = {"full_attention": False, "sliding_attention": True}
    if not isinstance(types, list) or len(types) != n_layers or any(not isinstance(name, str) or name not in known for name in types):
        raise config.refuse("layer_types", f"`full_attention` or `sliding_attention` for each of {n_layers} layers", shown(types))
    found = [known[name] for name in types]
    if found != rule and (kind == "mistral" or not uses):  # Mistral's model does not read it, and without a window none can slide
        raise config.refuse("layer_types", "what the other keys say of windows", "something else")
    return found


def _window(config: _Config, slides: Sequence[bool], arch: Arch) -> object:
    """The window that every layer has; None where no layer has one, or none is ever reached."""
    window = config["sliding_window"]
    if not any(slides) or (type(window) is int and window >= arch.max_position):
        return None
    if not all(slides):
        raise config.refuse("sliding_window", "a window in every layer or in none", f"one in {sum(slides)} of {len(slides)} layers")
    return window


def _rope(config: _Config) -> tuple[object, RopeScaling | None]:
    """Base and scaling. transformers 5 keeps both in `rope_parameters`; before, `rope_theta` stood alone and `rope_scaling` beside it."""
    key = "rope_parameters" if config["rope_parameters"] is not None else "rope_scaling"
    value = config[key]
    settings: dict[str, object] = value if isinstance(value, dict) else {}
    if value is not None and not isinstance(value, dict):
        raise config.refuse(key, "an object or null", shown(value))
    theta = settings.get("rope_theta", config["rope_theta"])
    kinds = [settings[name] for name in ("rope_type", "type") if name in settings]
    kind = kinds[0] if kinds else "default"
    if kind not in ("default", "linear", "llama3") or any(other != kind for other in kinds):
        raise config.refuse(f"{key}/rope_type", "`default`, `linear` or `llama3`", ", ".join(map(shown, kinds)))
    if settings.get("partial_rotary_factor", config.given.get("partial_rotary_factor", 1)) != 1:
        raise config.refuse(f"{key}/partial_rotary_factor", "1", "another value")
    if kind == "default":
        return theta, None
    names = {"factor": "factor"}
    if kind == "llama3":
        names |= {name: name for name in ("low_freq_factor", "high_freq_factor")} | {"original_max_position": "original_max_position_embeddings"}
    return theta, _scaling(config, key, {"kind": kind} | {name: settings.get(theirs) for name, theirs in names.items()})


def _scaling(config: _Config, key: str, fields: dict[str, object]) -> RopeScaling:
    try:
        return RopeScaling.model_validate(fields, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise config.refuse("/".join([key, *map(str, first["loc"])]), first["msg"], shown(first["input"])) from None
