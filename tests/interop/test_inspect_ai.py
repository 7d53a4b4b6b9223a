"""The real inspect_ai: its reader takes an evaluation's log for what it says, and its viewer shows it."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.chromium import browser
from fakes.inspected import write_inspected
from fakes.shell import interlock

pytestmark = pytest.mark.train
HARNESSES = Path(os.environ["INTERLOCK_HARNESSES"])
READ = """
import json, sys
from inspect_ai.log import list_eval_logs, read_eval_log
(info,) = list_eval_logs(sys.argv[1])
log = read_eval_log(info)
json.dump({"log": log.model_dump(mode="json"), "completions": [sample.output.completion for sample in log.samples]}, sys.stdout)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A folder with the log of an evaluation in `logs`, and the evaluation's rows."""
    folder = tmp_path_factory.mktemp("inspect")
    _, rows = write_inspected(folder / "evaluation")
    (folder / "logs").mkdir()
    said = interlock("report", folder / "evaluation", "--inspect", folder / "logs" / "2026-11-30T00-00-00+00-00_contextual_a.json")
    assert said.code == 0, said.err
    return folder, rows


def test_the_reader_finds_every_item_message_score_and_figure(place: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rows = place
    told = json.loads(subprocess.run([HARNESSES / "python", "-c", READ, folder / "logs"], capture_output=True, text=True, check=True).stdout)
    log, figures = told["log"], json.loads((folder / "evaluation" / "summary.json").read_text())["figures"]
    assert (log["status"], log["eval"]["task"], log["results"]["total_samples"], log["results"]["completed_samples"]) == (
        "success",
        "contextual",
        12,
        11,
    )
    assert told["completions"] == [row["answers"]["text"]["text"] for row in rows]
    for sample, row in zip(log["samples"], rows, strict=True):
        said = row["answers"]["text"]
        contents = [row["given"], *(turn["content"] for turn in said.get("turns", ())), said["text"]]
        assert [message["content"] for message in sample["messages"]] == contents
        assert (sample["id"], sample["target"]) == (row["id"], row["wanted"])
        scores = {name: value for name, value in row["scores"].items() if value is not None and value != []}
        assert {name: score["value"] for name, score in sample["scores"].items()} == pytest.approx(
            {name: sum(value) / len(value) if isinstance(value, list) else value for name, value in scores.items()}
        )
    (failed,) = [sample for sample in log["samples"] if sample["error"]]
    assert failed["error"]["message"] == "no answer"
    shown = {score["name"]: {name: metric["value"] for name, metric in score["metrics"].items()} for score in log["results"]["scores"]}
    assert shown == {name: {part: figure[part] for part in ("measured", "low", "high") if part in figure} for name, figure in figures.items()}


@pytest.fixture(scope="module")
def address(place: tuple[Path, list[dict[str, Any]]]) -> Iterator[str]:
    """A bundle of the viewer with the log in it, served."""
    folder, _ = place
    command = [HARNESSES / "inspect", "view", "bundle", "--log-dir", str(folder / "logs"), "--output-dir", str(folder / "bundle")]
    subprocess.run(command, check=True, capture_output=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder / "bundle"))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


def test_the_viewer_shows_the_items(place: tuple[Path, list[dict[str, Any]]], address: str) -> None:
    folder, rows = place
    with browser() as page:
        page.open(address)
        deadline = time.monotonic() + 30
        while "contextual" not in (text := page.evaluate("document.body.innerText")) and time.monotonic() < deadline:
            time.sleep(0.3)
        assert "contextual" in text
        log = next((folder / "bundle" / "logs").glob("*contextual*.json")).name
        page.evaluate(f"location.hash = '/logs/{log}/samples'")  # the page is the same, and loads nothing
        while rows[0]["id"] not in (text := page.evaluate("document.body.innerText")) and time.monotonic() < deadline + 30:
            time.sleep(0.3)
        page.picture(folder / "viewer.png")
        assert rows[0]["id"] in text, text[:2000]
