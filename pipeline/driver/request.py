"""One stage's request: all that its process is told, in one file. What a launcher starts answers it and ends.

Here: reading the request, ending with the driver, the answer. Not here: writing it (driver/children.py), the stage's shell (driver/stage.py).
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock import environments
from interlock.errors import EnvironmentRefused, StageFailed
from interlock.voice import Voice


@dataclass(frozen=True)
class Request:
    """`params` are the stage's parameters in JSON, directories included; `driver` is the process that waits for the answer."""

    stage: str
    module: str
    environment: str
    params: dict[str, Any]
    driver: int

    def to_json(self) -> bytes:
        return json.dumps(self.__dict__, indent=1).encode()


def answer(file: Path, voice: Voice) -> dict[str, Any]:
    """Run the stage that `file` asks for. Returns its report; raises an InterlockError when nothing was made."""
    request = _read(file)
    _end_with(request.driver)
    if not request.params.get("toy"):
        # Before the stage's module: a foreign interpreter may not even import it.
        environments.admit(environments.environment(request.environment), request.stage)
    from pipeline.driver import stage

    try:
        found: stage.Stage[Any] = importlib.import_module(request.module).STAGE
    except ModuleNotFoundError as error:
        raise EnvironmentRefused(
            f"stage `{request.stage}` cannot be imported: there is no module `{error.name}`",
            required=f"{request.module} and what it imports",
            running=sys.executable,
            remedy=f"install the package that offers it into environment `{request.environment}`",
        ) from None
    params = found.params.model_validate_json(json.dumps(request.params))
    return stage.run(found, params, voice).as_dict()


def _read(file: Path) -> Request:
    try:
        return Request(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise StageFailed(f"`{file}` is no request ({error})", remedy="requests are written by `interlock build`; run that") from None


def _end_with(driver: int) -> None:
    """Let no stage outlive its driver: what it would make, nobody would take."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)
    else:
        threading.Thread(target=_watch, args=(driver,), daemon=True).start()
    if os.getppid() != driver:
        os._exit(130)


def _watch(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(0.5)
    os._exit(130)
