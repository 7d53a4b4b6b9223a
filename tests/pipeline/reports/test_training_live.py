"""A training in the views of a build: a log of lines stays short however long it takes, a terminal shows the last record and the last evaluation."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from fakes.trained_chains import log_lines
from rich.console import Console

from pipeline.driver.graph import Node
from pipeline.driver.registry import OURS
from pipeline.reports.live import PlainView, RichView
from pipeline.reports.training_live import TrainingView
from pipeline.training.told import Line, Told

# The same in both environments: once is enough.
pytestmark = pytest.mark.train

NODE = Node("train", OURS["train"], {}, {})
OTHER = Node("data", OURS["data"], {}, {})


def figures(first: int, last: int, run: str = "student") -> dict[str, Any]:
    """What a training tells of its steps from `first` to `last` of 40000, in JSON."""
    lines = [msgspec.convert(line, Line) for line in log_lines(last)[first - 1 :]]
    told = Told(run=run, steps=40_000, lines=lines, tokens_per_s=1234.0, steps_per_s=2.0, left_s=7200.0, memory_bytes=512_000_000)
    found: dict[str, Any] = msgspec.to_builtins(told)
    return found


def test_eight_hours_of_figures_are_some_hundred_lines(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    view, news = PlainView(lambda node: node.title, clock=lambda: now[0]), figures(1, 3)
    for second in range(8 * 3600):
        now[0] = float(second)
        view.figures(NODE, news)
        view.line(NODE, f"  train, {second} s")  # the pulse of a long step
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("train| step 3 of 40000, loss 3.667 (ce 2.444") and "2 h 00 min left" in said[0]
    assert 8 * 60 <= len(said) < 8 * 60 + 10 and not any("train, " in line for line in said)


def test_what_is_not_figures_is_shown_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView(lambda node: node.title)
    view.figures(NODE, figures(1, 1))
    view.figures(OTHER, {"another": "stage's"})
    view.line(NODE, "an evaluation")
    view.line(OTHER, "  make train, 1 s")
    assert capsys.readouterr().err.splitlines()[1:] == ["train| an evaluation", "data|   make train, 1 s"]


def rendered(view: RichView, width: int = 100) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(view.shown())
    return captured.get()


@pytest.mark.parametrize("width", [60, 100, 200])
def test_a_terminal_shows_the_last_record_and_the_last_evaluation(width: int) -> None:
    view = TrainingView(lambda node: node.title, [OTHER, NODE])
    view.step(OTHER, "kept")
    view.step(NODE, "running")
    assert "loss" not in rendered(view, width)
    view.figures(NODE, figures(1, 10))
    view.figures(NODE, figures(11, 12))
    view.line(NODE, "  train, 12 s")
    shown = rendered(view, width)
    assert "student: step 12 of 40000" in shown and "validation loss after step 10: 0.500 nats a token" in shown
    assert re.search(r"loss\W+0.523\W+ce 0.348", shown), shown
    assert "1234 tokens/s" in shown and "2 h 00 min left" in " ".join(shown.replace("│", " ").split()) and "512.0 MB" in shown
    assert all(len(line) <= width for line in shown.splitlines())
    assert re.search(r"text right +90%", shown) if width > 60 else "90%" in shown


def test_the_next_run_begins_without_the_evaluation_of_the_last() -> None:
    view = TrainingView(lambda node: node.title, [NODE])
    view.step(NODE, "running")
    view.figures(NODE, figures(1, 10))
    assert "validation" in rendered(view)
    view.figures(NODE, figures(1, 2, "pause"))
    assert "control pause: step 2 of 40000" in rendered(view) and "validation" not in rendered(view)


def test_the_table_of_a_build_has_one_line_of_it() -> None:
    view = RichView(lambda node: node.title, [NODE])
    view.step(NODE, "running")
    view.figures(NODE, figures(1, 12))
    view.line(NODE, "  train, 12 s")
    assert re.fullmatch(r"▸ train +running +0 s +step 12 of 40000, loss .*\n", rendered(view, 160))


def test_a_sample_cannot_steer_the_terminal() -> None:
    news = figures(1, 10)
    news["lines"][-1]["samples"][0] |= {"said": "\x1b[2J[red]\u202e", "right": False}
    view = TrainingView(lambda node: node.title, [NODE])
    view.step(NODE, "running")
    view.figures(NODE, news)
    assert "\x1b" not in rendered(view) and "[red]" in rendered(view)
