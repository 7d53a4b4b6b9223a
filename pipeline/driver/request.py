"""One stage's request: all that its process is told, in one file. What a launcher starts answers it and ends.

Here: reading the request, the answer. Not here: writing it (driver/children.py), ending with the driver (leash.py), the stage's shell (stage.py).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock import environments, fs
from interlock.errors import EnvironmentRefused, InterlockError, StageFailed, UsageError
from interlock.voice import Voice
from pipeline.driver import leash

# Beside the request: the traceback of another package's stage, for the log and not for the screen.
TRACEBACK = "traceback"


@dataclass(frozen=True)
class Request:
    """`params` are the stage's parameters in JSON, directories included.

    source: the digest of the stage's source in its key; project: the folder of the driver's own source; distribution: the package that offers the
    stage, empty for interlock's own; gates: module, attribute, distribution and params of each gate of another package that is asked before
    publication; launcher and image: what started this, for the record.
    """

    stage: str
    module: str
    environment: str
    params: dict[str, Any]
    attribute: str = "STAGE"
    source: str | None = None
    project: str = str(environments.ROOT)
    distribution: str = ""
    gates: list[dict[str, Any]] = field(default_factory=list)
    launcher: str = "current"
    image: str | None = None

    def to_json(self) -> bytes:
        return json.dumps(self.__dict__, indent=1).encode()


def answer(file: Path, voice: Voice) -> dict[str, Any]:
    """Run the stage that `file` asks for. Returns its report; raises an InterlockError when nothing was made."""
    request = _read(file)
    leash.hold()
    if not request.params.get("toy"):
        # Before the stage's module: a foreign interpreter may not even import it.
        remedy = f"let a launcher enter `{request.environment}`: interlock build RECIPE --launcher uv"
        environments.admit(environments.environment(request.environment), request.stage, remedy=remedy)
    _check_source(request)
    if request.distribution:
        with _guests(request, file.parent.absolute()):
            return _run(request, voice)
    return _run(request, voice)


def _run(request: Request, voice: Voice) -> dict[str, Any]:
    from pipeline.driver import gate, stage

    found: stage.Stage[Any] = _load(request, request.module, request.attribute)
    params = _parsed(found.params, request.params, f"stage `{request.stage}`")
    asked = []
    for one in request.gates:
        guard: gate.Gate[Any] = _load(request, one["module"], one["attribute"])
        asked.append(gate.Asked(guard, _parsed(guard.params, one["params"], f"gate `{guard.name}`"), one["distribution"]))
    entered = environments.Entered(request.launcher, request.image)
    return stage.run(found, params, voice, gates=asked, source=request.source, entered=entered).as_dict()


def _check_source(request: Request) -> None:
    """A launcher that runs a copy of the project must run the driver's: a key names the source that was read here. Raises EnvironmentRefused."""
    from pipeline.driver import keys

    if request.project == str(environments.ROOT) or request.distribution or request.source is None:
        return
    if (found := keys.source_digest(request.module)) != request.source:
        raise EnvironmentRefused(
            f"launcher `{request.launcher}` runs another source of stage `{request.stage}` than the driver",
            required=f"source digest {request.source}",
            running=f"{found} in `{environments.ROOT}`",
            remedy=f"bring environment `{request.environment}` up to date: interlock env check {request.environment}",
        )


def _load(request: Request, module: str, attribute: str) -> Any:
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise EnvironmentRefused(
            f"stage `{request.stage}` cannot be imported: there is no module `{error.name}`",
            required=f"{module} and what it imports",
            running=sys.executable,
            remedy=f"install the package that offers it into environment `{request.environment}`",
        ) from None
    return found


def _parsed(model: Any, params: dict[str, Any], whose: str) -> Any:
    from pydantic import ValidationError

    try:
        return model.model_validate_json(json.dumps(params))
    except ValidationError as error:
        places = [f"{'/'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors(include_url=False)]
        raise UsageError(f"{whose} does not take these parameters: {'; '.join(places)}", remedy="correct them in the recipe") from None


@contextlib.contextmanager
def _guests(request: Request, folder: Path) -> Iterator[None]:
    """Code of another package works in an empty folder of its own, and whatever it raises is told in one sentence; its traceback is in the log.

    What it leaves outside its workspace is refused: nobody would know of it, and the next run would not make it.
    """
    here = folder / "here"
    with fs.named_failures(here):
        fs.make_parents(fs.Fs(), here)
    os.chdir(here)
    try:
        yield
    except (InterlockError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too
        from pipeline.driver.offers import told

        with contextlib.suppress(OSError):
            fs.Fs().write(folder / TRACEBACK, traceback.format_exc().encode("utf-8", "backslashreplace"))
        raise StageFailed(
            f"stage `{request.stage}` of {request.distribution} failed: {told(error, request.module)}",
            remedy=f"this is a bug of {request.distribution}, or of what it was given; the traceback is in the step's log",
        ) from error
    left = [path.name for path in here.iterdir()] + [path.name for path in folder.iterdir() if path.name not in ("here", "request.json", "out")]
    if left:
        raise StageFailed(
            f"stage `{request.stage}` of {request.distribution} left `{left[0]}` outside its workspace",
            remedy="nothing was published; a stage writes with the workspace that its work gets",
        )


def _read(file: Path) -> Request:
    try:
        return Request(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise StageFailed(f"`{file}` is no request ({error})", remedy="requests are written by `interlock build`; run that") from None
