"""Headless Chromium over the DevTools protocol on a pipe: what a page asked for, what it complained about, how it looks.

Needs nothing but Chromium, which ci/chromium finds or installs. Protocol: chromedevtools.github.io/devtools-protocol; messages on file
descriptors 3 and 4 are JSON, ended by a zero byte (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock.environments import ROOT

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--force-color-profile=srgb",
)  # fmt: skip
WAIT_S = 60.0


def chromium() -> str:
    """The browser's path. Fails, and never skips, where there is none."""
    found = subprocess.run([ROOT / "ci" / "chromium"], stdout=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 0, "no Chromium for the tests of pages: see the message above"
    return found.stdout.splitlines()[-1]


@dataclass
class Seen:
    """What happened while a page was open."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


class Page:
    """One page that is open."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._rest, self._number, self._session = b"", 0, ""
        self._loaded = False
        self.seen = Seen()

    def open(self, file: Path | str, width: int = 1200, *, dark: bool = False) -> None:
        """Load a file, or what an address says, in a window `width` CSS pixels wide, and wait until everything is there."""
        if not self._session:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Log"):
                self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.seen, self._loaded = Seen(), False
        self.call("Page.navigate", url=file if isinstance(file, str) else file.absolute().as_uri())
        deadline = time.monotonic() + WAIT_S
        while not self._loaded:
            self._take(deadline)
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression of ours, as JSON; the page's own policy does not bind the debugger."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, file: Path) -> None:
        """A PNG of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]))

    def printed(self, file: Path) -> None:
        """The page as a PDF."""
        file.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": self._session} if self._session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + WAIT_S
        while True:
            answer = self._take(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def _take(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "Chromium ended"
            self._rest += data
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            self.seen.requests.append(params["request"]["url"][:200])
        elif event == "Log.entryAdded":
            self.seen.complaints.append(params["entry"]["text"])
        elif event in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.seen.complaints.append(json.dumps(params))
        elif event == "Page.javascriptDialogOpening":
            self.seen.dialogs.append(params["message"])
            self._number += 1
            answer = {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}, "sessionId": self._session}
            os.write(self._write, json.dumps(answer).encode() + b"\0")


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A browser with an empty profile of its own; it ends with the block."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    profile = tempfile.mkdtemp(prefix="chromium-")
    command = [chromium(), *QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    # The protocol wants descriptors 3 and 4 by number; above 9 neither of ours is in the way.
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in (theirs_in, theirs_out)]
    actions = [
        *((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)),
        (os.POSIX_SPAWN_DUP2, high[0], 3),
        (os.POSIX_SPAWN_DUP2, high[1], 4),
    ]
    process = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    for descriptor in (theirs_in, theirs_out, *high):
        os.close(descriptor)
    try:
        yield Page(ours_out, ours_in)
    finally:
        os.close(ours_out)  # the browser ends with its pipe
        os.close(ours_in)
        _ended(process)
        shutil.rmtree(profile, ignore_errors=True)


def _ended(process: int) -> None:
    deadline = time.monotonic() + 10
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return
        time.sleep(0.02)
