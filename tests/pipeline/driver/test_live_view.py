"""The live view on a real terminal: a table of every step with state, time, memory and last line, gone at the end; plain lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest
from fakes.stub_builds import StubProject, interpreter

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interpreter(tmp_path_factory.mktemp("python") / "venv")


def on_terminal(project: StubProject, *words: str) -> tuple[int, str]:
    """Exit code and everything that a terminal of 100 columns was sent on stderr; stdout goes elsewhere."""
    leader, follower = pty.openpty()
    environ = {**os.environ, **project.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm-256color"}
    child = subprocess.Popen(project.argv(*words), cwd=project.folder, env=environ, stdout=subprocess.DEVNULL, stderr=follower, stdin=follower)
    os.close(follower)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([leader], [], [], 0.2)[0]:
            try:
                data = os.read(leader, 65536)
            except OSError:  # EIO: the child's end is closed
                break
            seen += data
    os.close(leader)
    return child.wait(timeout=10), seen.decode("utf-8", "replace")


def plainly(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_every_step_is_shown_while_it_runs(python: Path, tmp_path: Path) -> None:
    project = StubProject(tmp_path / "project", python)
    project.write(sleep_s=1.2)
    code, sent = on_terminal(project, "build", "chain.toml", "--launcher", "current")
    shown = plainly(sent)
    assert code == 0
    assert re.search(r"▸ words +running +\d+ s +[\d.]+ [kMG]B", shown), shown[-2000:]
    assert re.search(r"· louder +waiting", shown) and re.search(r"✓ words +made", shown)
    assert "\x1b[?25l" in sent and "\x1b[?25h" in sent, "the cursor is hidden and comes back"


def test_the_cursor_comes_back_after_a_failure(python: Path, tmp_path: Path) -> None:
    project = StubProject(tmp_path / "project", python)
    file = project.write()
    file.write_text(file.read_text().replace("times = 3", "refuse = true"))
    code, sent = on_terminal(project, "build", "chain.toml", "--launcher", "current")
    assert code == 6 and sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")
    assert "the words are not good enough" in plainly(sent)


def test_elsewhere_there_are_lines_with_the_steps_name(python: Path, tmp_path: Path) -> None:
    project = StubProject(tmp_path / "project", python)
    project.write()
    said = project.run("build", "chain.toml", "--launcher", "current")
    assert said.code == 0 and "\x1b" not in said.err + said.out
    assert "words: running (never made here before)" in said.err and "loudest: made" in said.err
    log = next((project.folder / ".interlock" / "logs").rglob("words-*.log")).read_text()
    assert log.startswith("$ ") and "ended with 0" in log
