"""What other packages offer to builds in this very interpreter: stages and gates by entry point, each loaded, looked at, and its parameters tried.

Here: the answer that one interpreter gives. Not here: asking every environment and keeping what it said (registry.py), running a stage (request.py).
A package is foreign: whatever importing it does becomes a sentence in its offer, and never ends the others'.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import ValidationError

from interlock import environments
from interlock.contracts import io
from interlock.contracts.base import Frozen
from pipeline.driver.gate import Gate
from pipeline.driver.keys import PACKAGES
from pipeline.driver.stage import Params, Stage

GROUPS = {"stage": "interlock.stages", "gate": "interlock.gates"}
# Set by the driver: no recipe can.
OWN = tuple(Params.model_fields)


def answer(environment: str, taken: Sequence[str], asked: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Every stage and gate that is offered here, by name, and for each of `asked` (by what it is: its name and params) what does not fit.

    environment: the name of the environment that this interpreter is; taken: names that are interlock's own.
    """
    offers = {what: _offers(what, environment, taken) for what in GROUPS}
    return {
        "folders": [str(Path(folder).absolute()) for folder in sys.path if Path(folder).is_dir()],
        **{what: {name: _without_object(offer) for name, offer in found.items()} for what, found in offers.items()},
        "wrong": {what: [_wrong_params(offers[what].get(one["name"]), one["params"]) for one in asked.get(what, ())] for what in GROUPS},
    }


def _without_object(offer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in offer.items() if key != "object"}


def _offers(what: str, environment: str, taken: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for point in metadata.entry_points(group=GROUPS[what]):
        offer = _offer(what, point, environment)
        if point.name in taken:
            offer["problem"] = f"the name `{point.name}` is interlock's own"
        before = found.get(point.name)
        if before is not None and before["distribution"] != offer["distribution"]:
            offer["problem"] = f"both {before['distribution']} and {offer['distribution']} offer it: uninstall one of them"
        found[point.name] = offer
    return dict(sorted(found.items()))


def _offer(what: str, point: metadata.EntryPoint, environment: str) -> dict[str, Any]:
    module, _, attribute = point.value.partition(":")
    name, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "0")
    offer: dict[str, Any] = {"module": module, "attribute": attribute or what.upper(), "distribution": name, "version": version, "problem": None}
    try:
        offered: Any = importlib.import_module(module)
        for part in offer["attribute"].split("."):
            offered = getattr(offered, part)
        offer["problem"] = wrong_stage(offered, point.name) if what == "stage" else wrong_gate(offered, point.name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a module may do anything
        offer["problem"] = f"`{point.value}` cannot be imported: {told(error, module)}"
    if offer["problem"] is None:
        offer |= {"object": offered, "packages": _packages(name, environment), "roots": _roots(module, name, environment)}
        offer |= _declared_stage(offered) if what == "stage" else {"kind": offered.kind}
        offer["parameters"] = _fields(offered)
    return offer


def _declared_stage(stage: Stage[Any]) -> dict[str, Any]:
    return {"environment": stage.environment, "produces": stage.produces, "inputs": dict(stage.inputs), "reads": list(stage.reads)}


def told(error: BaseException, module: str) -> str:
    """An exception of foreign code in one line, with the last place in its own package."""
    top = module.partition(".")[0]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if top in Path(frame.filename).parts or Path(frame.filename).stem == top]
    place = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300] + place


def wrong_stage(stage: Any, name: str) -> str | None:
    """Why an object is no stage that a build can run under `name`; None where it is one."""
    if not isinstance(stage, Stage):
        return f"it is a {type(stage).__name__} and no pipeline.driver.stage.Stage"
    if stage.name != name:
        return f"it calls itself `{stage.name}` and is offered as `{name}`"
    known = environments.environments()
    if stage.environment not in known:
        return f"there is no environment `{stage.environment}`: there are {', '.join(known)}"
    if stage.produces not in io.KINDS:
        return f"it produces `{stage.produces}`, which is no kind of artifact: there are {', '.join(io.KINDS)}"
    if not (isinstance(stage.params, type) and issubclass(stage.params, Params)):
        return "its params are no subclass of pipeline.driver.stage.Params"
    own = set(stage.params.model_fields) - set(OWN)
    if strange := [one for one in (*stage.inputs, *stage.reads) if one not in own]:
        return f"`{strange[0]}` is an input or read, and no parameter of its own"
    if strange := [kind for kind in stage.inputs.values() if kind not in io.KINDS]:
        return f"it takes a `{strange[0]}`, which is no kind of artifact: there are {', '.join(io.KINDS)}"
    return None if callable(stage.work) else "its work cannot be called"


def wrong_gate(gate: Any, name: str) -> str | None:
    """Why an object is no gate that a build can ask under `name`; None where it is one."""
    if not isinstance(gate, Gate):
        return f"it is a {type(gate).__name__} and no pipeline.driver.gate.Gate"
    if gate.name != name:
        return f"it calls itself `{gate.name}` and is offered as `{name}`"
    if gate.kind not in io.KINDS:
        return f"it is asked about a `{gate.kind}`, which is no kind of artifact: there are {', '.join(io.KINDS)}"
    if not (isinstance(gate.params, type) and issubclass(gate.params, Frozen)):
        return "its params are no subclass of interlock.contracts.base.Frozen"
    return None if callable(gate.look) else "its look cannot be called"


def _fields(offered: Stage[Any] | Gate[Any]) -> dict[str, str]:
    """The parameters that a recipe may give, and what they take, for a person."""
    hidden = {*OWN, *offered.inputs} if isinstance(offered, Stage) else set()
    shown = {}
    for name, field in offered.params.model_fields.items():
        if name not in hidden:
            kind = getattr(field.annotation, "__name__", None) or str(field.annotation)
            shown[name] = kind if field.is_required() else f"{kind} = {field.get_default(call_default_factory=True)!r}"
    return shown


def _wrong_params(offer: dict[str, Any] | None, params: dict[str, Any]) -> list[list[str]]:
    """What of a recipe's parameters does not fit: place below them, and why."""
    if offer is None or offer["problem"]:
        return []
    offered = offer["object"]
    given = {"out": "/out", **dict.fromkeys(offered.inputs, "/in")} if isinstance(offered, Stage) else {}
    if reserved := [name for name in params if name in given or (isinstance(offered, Stage) and name in OWN)]:
        return [[reserved[0], "is set by the build, and not by a recipe"]]
    try:
        offered.params.model_validate_json(json.dumps(params | given))
    except ValidationError as error:
        return [["/".join(str(part) for part in item["loc"]), item["msg"]] for item in error.errors(include_url=False, include_context=False)]
    except Exception as error:  # a validator of the author's
        return [["", told(error, offer["module"])]]
    return []


def _packages(distribution: str, environment: str) -> dict[str, str]:
    """Versions of a distribution and of all that it needs and the environment's lock does not pin: those are in the key already."""
    pinned = {*environments.environment(environment).pins(), "interlock"}
    found: dict[str, str] = {}
    waiting = [distribution]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found or name in pinned:
            continue
        try:
            one = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = one.version
        waiting += _needs(one)
    return dict(sorted(found.items()))


def _needs(distribution: metadata.Distribution) -> Iterable[str]:
    for text in distribution.requires or ():
        try:
            need = Requirement(text)
        except InvalidRequirement:
            continue
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield need.name


def _roots(module: str, distribution: str, environment: str) -> dict[str, str]:
    """Import names whose modules are a stage's source, and the folder of each: the offering package's, and those of editable ones that it needs."""
    file = Path(sys.modules[module].__file__ or "").resolve()
    depth = module.count(".") + (file.name == "__init__.py")
    folder = file.parents[depth]
    roots = {module.partition(".")[0]: folder}
    if {"site-packages", "dist-packages"}.isdisjoint(folder.parts):
        roots |= dict.fromkeys(_importable(folder), folder)
    else:
        roots |= {name: folder for name in _listed(distribution) if (folder / name).is_dir() or (folder / f"{name}.py").is_file()}
    for name in _packages(distribution, environment):
        for place in _editable(name):
            roots |= {found: place for found in _importable(place) if found not in roots}
    return {name: str(place) for name, place in sorted(roots.items()) if name not in PACKAGES}


def _importable(folder: Path) -> list[str]:
    """Names that can be imported from a folder of source."""
    found = [path.stem for path in folder.glob("*.py")] + [path.parent.name for path in folder.glob("*/__init__.py")]
    return [name for name in found if name.isidentifier()]


def _listed(distribution: str) -> set[str]:
    """Top-level names of what an installed distribution put in place."""
    files = metadata.distribution(distribution).files or ()
    return {file.parts[0].removesuffix(".py") for file in files if file.suffix == ".py" and file.parts[0] != ".."}


def _editable(distribution: str) -> list[Path]:
    """Where the source of an editable distribution may lie."""
    try:
        origin = json.loads(metadata.distribution(distribution).read_text("direct_url.json") or "{}")
    except (ValueError, metadata.PackageNotFoundError):
        return []
    if not origin.get("dir_info", {}).get("editable"):
        return []
    folder = Path(unquote(urlsplit(str(origin.get("url", ""))).path))
    return [place for place in (folder / "src", folder) if place.is_dir()]
