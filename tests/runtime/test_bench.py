"""The figures of `interlock bench`: what is run, how often, and what it is called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes.function_backend import FunctionBackend
from fakes.latent_students import known_student, write_checkpoint
from fakes.shell import interlock

from interlock.errors import UsageError
from pipeline.verbs.bench import table
from runtime.bench import Lengths, measure


def backend() -> FunctionBackend:
    return FunctionBackend(lambda _: np.zeros(9, np.float32), capacity=40)


def test_every_test_runs_as_often_as_there_are_rounds_and_once_more_for_the_first() -> None:
    made = backend()
    report = measure(made, 9, Lengths((30, 8), (5,), 3, 2))
    assert [rate["test"] for rate in report["rates"]] == ["pp30", "pp8", "tg5"]
    assert [len(ids) for ids in made.prompts] == [30, 30, 30, 8, 8, 3, 3]
    assert len(made.decoded) == 2 * 5
    assert all(0 < rate["least"] <= rate["tokens_per_s"] <= rate["greatest"] for rate in report["rates"])
    assert report["peak_bytes"] > 20e6 and report["first_ms"] > 0


@pytest.mark.parametrize(
    "lengths", [Lengths((41,), (), 0, 1), Lengths((), (20,), 21, 1), Lengths((0,), (), 0, 1), Lengths((), (), 0, 1), Lengths((1,), (), 0, 0)]
)
def test_what_cannot_be_measured_is_refused(lengths: Lengths) -> None:
    with pytest.raises(UsageError):
        measure(backend(), 9, lengths)


@pytest.mark.train
def test_each_form_of_weights_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "made", known_student(), None)
    lengths = ("--prompts", "6", "--answers", "4", "--rounds", "1", "--threads", "1")
    reports = json.loads(interlock("bench", folder, "--weights", "fp32", "int8", *lengths, "--json").out)["configurations"]
    assert [(report["weights"], report["threads"], len(report["rates"])) for report in reports] == [("fp32", 1, 2), ("int8", 1, 2)]
    rows = [["eager", weights, test] for weights in ("fp32", "int8") for test in ("pp6", "tg4")]
    assert [line.split()[:3] for line in table(reports)[1:]] == rows
