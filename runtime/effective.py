"""The configuration that holds: each field's value, who set it, and what a limit made of it.

Here: the order of sources (command line, environment, file, training, default) and the record of it. Not here: fields and their ranges (config.py),
limits (limits.py), options (infer/options.py). Nothing else in the project puts sources over one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interlock.contracts import checkpoint, deployment, export, io
from interlock.contracts.checkpoint import Training
from interlock.errors import ContractError, refuse
from runtime.config import ENVIRONMENT, RuntimeConfig, validated_over
from runtime.limits import REMEDY, Model, capped, cuts, limit_violations, trained_limits, usual_config

COMMAND_LINE = "command line"
DEFAULT = "default"
TRAINING = "training"


@dataclass(frozen=True)
class Effective:
    """One field. value: what holds; source: `command line`, `environment NAME`, `file PATH`, `training` or `default`; asked: what the source says;
    cut: why that does not hold, None where it does."""

    value: Any
    source: str
    asked: Any
    cut: str | None = None


@dataclass(frozen=True)
class Resolved:
    """The thirteen fields by name, and the same as a configuration."""

    config: RuntimeConfig
    fields: Mapping[str, Effective]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, for JSON."""
        plain, asked = self.config.model_dump(mode="json"), {name: _plain(one.asked) for name, one in self.fields.items()}
        return {name: {"value": plain[name], "source": one.source, "asked": asked[name], "cut": one.cut} for name, one in self.fields.items()}

    def surprises(self) -> list[str]:
        """What somebody asked for in so many words, on the command line or by a variable, and does not get."""
        told = {name: one for name, one in self.fields.items() if one.cut and (one.source == COMMAND_LINE or one.source.startswith("environment "))}
        return [f"{name} is {_plain(one.value)} and not {_plain(one.asked)} ({one.source}): {one.cut}" for name, one in told.items()]


@dataclass(frozen=True)
class File:
    """A configuration file as it was read: `config.model_fields_set` are the fields that stand in it."""

    path: str
    config: RuntimeConfig


def resolve(
    file: File | None = None,
    model: Model | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    given: Mapping[str, Any] | None = None,
    giver: str = COMMAND_LINE,
) -> Resolved:
    """What holds. `given` stands over `environ`, that over `file`, that over what the model was trained for, that over the defaults; the tier and the
    model cut last. A model without a file is run greedily, with its halt head. giver: what `given` is called. model: None where none is known.

    Raises UsageError for a value that no field takes, naming its source, and ContractError for what the model was never trained for.
    """
    training = model.training if model else None
    start = RuntimeConfig(**trained_limits(training)) if file else usual_config(training) if model else RuntimeConfig()
    taught = {*trained_limits(training), *({"halt_head_enabled"} if not file and start.halt_head_enabled else ())}
    values = start.model_dump()
    sources = {name: TRAINING if name in taught else DEFAULT for name in values}
    if file:
        values |= {name: getattr(file.config, name) for name in file.config.model_fields_set}
        sources |= dict.fromkeys(file.config.model_fields_set, f"file {file.path}")
    variables = {field: name for name, field in ENVIRONMENT.items() if name in (environ or {})}
    sources |= {field: f"environment {name}" for field, name in variables.items()}
    sources |= dict.fromkeys(given or {}, giver)
    over = {**{field: (environ or {})[name] for field, name in variables.items()}, **(given or {})}
    config = validated_over(values, over, sources)
    if model:
        wrong = [replace(one, file=sources[one.where[1:]]) for one in limit_violations(config, training, "")]
        if wrong:
            raise ContractError(*wrong, remedy=REMEDY)
    limited, because = capped(config, model), cuts(config, model)
    fields = {
        name: Effective(getattr(limited, name), sources[name], getattr(config, name), because[name].why if name in because else None)
        for name in RuntimeConfig.model_fields
    }
    return Resolved(limited, fields)


def of_directory(directory: Path) -> tuple[File | None, Model]:
    """The configuration file and the model of a deployed directory or a checkpoint, by its contracts; no tensor is read.

    Raises ContractError for anything else, and for a configuration that is none.
    """
    kind = io.kind_of(directory) if directory.is_dir() else None
    if kind == "checkpoint":
        return None, Model(io.read_contract(directory / checkpoint.FILE, checkpoint.CheckpointContract).training)
    if kind != "deployment":
        found = f"a directory of kind `{kind}`" if kind else "no such directory, or no contract in it"
        remedy = "name a deployed directory, or give a file with --config"
        raise refuse(directory, "", expected="a deployed directory or a checkpoint", found=found, remedy=remedy)
    manifest = io.read_contract(directory / deployment.FILE, deployment.DeploymentContract)
    training = _training(directory, manifest)
    path = directory / manifest.artifacts.runtime_config
    return read_file(path), Model(training)


def read_file(path: Path) -> File:
    """Raises UsageError and ContractError as `RuntimeConfig.from_file`."""
    return File(str(path), RuntimeConfig.from_file(path))


def _training(directory: Path, manifest: deployment.DeploymentContract) -> Training | None:
    exported = io.read_parts(directory, manifest)[export.FILE]
    assert isinstance(exported, export.ExportContract)
    return exported.training


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)
