"""A package index on this machine: wheels of a line of Python each, served over HTTP as any index serves its own."""

from __future__ import annotations

import contextlib
import functools
import threading
import zipfile
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def add_wheel(folder: Path, name: str, version: str, requires: Sequence[str] = ()) -> None:
    """Put `name` `version` into the index in `folder`."""
    place = folder / "simple" / name
    place.mkdir(parents=True, exist_ok=True)
    info, tag = f"{name}-{version}.dist-info", "py3-none-any"
    metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in requires)]
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", *metadata, ""]),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(place / f"{name}-{version}-{tag}.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is its own."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the index in `folder` while it is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
