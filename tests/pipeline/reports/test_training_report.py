"""What a report says of a training: words that claim no more than the contract, curves that keep to their values, a log that is proven first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.trained_chains import TRAINING, log_lines, write_trained_chain
from hypothesis import given
from hypothesis import strategies as st

from interlock.contracts.checkpoint import Training
from pipeline.lineage import lineage_of
from pipeline.reports import charts
from pipeline.reports.document import Document, Proof, document_of
from pipeline.reports.training import MOST_POINTS, Trained, curves_of, thinned, training_rows
from pipeline.training.told import LOG, Line

# The same in both environments: once is enough.
pytestmark = pytest.mark.train

points = st.lists(st.tuples(st.integers(1, 10**6), st.floats(-1e3, 1e3)), min_size=1, max_size=1000, unique_by=lambda one: one[0]).map(sorted)


def document(folder: Path, name: str = "deployed") -> Document:
    return document_of(folder / name, lineage_of(folder / name), Proof(()), {})


@given(points, st.integers(1, MOST_POINTS))
def test_thinned_curves_keep_order_range_and_every_point(curve: list[tuple[int, float]], most: int) -> None:
    found = thinned(curve, most)
    assert len(found) == min(most, len(curve)) and [step for step, _ in found] == sorted(step for step, _ in found)
    low, high = min(value for _, value in curve), max(value for _, value in curve)
    assert all(low - 1e-3 <= value <= high + 1e-3 for _, value in found)
    if len(curve) % len(found) == 0:  # runs as long as each other: the mean of means is the mean
        assert sum(v for _, v in found) / len(found) == pytest.approx(sum(v for _, v in curve) / len(curve), rel=1e-5, abs=1e-3)


@pytest.mark.parametrize(("helps", "text"), [(True, "shown: "), (False, "not shown: "), (None, "not claimed: no control was trained")])
def test_that_spans_help_is_said_only_where_it_was_shown(helps: bool | None, text: str) -> None:
    training = Training.model_validate_json(json.dumps({**TRAINING, "latent": {**TRAINING["latent"], "helps": helps}}))
    assert dict(training_rows(training))["that they help"].startswith(text)


def test_a_deployment_tells_of_the_training_behind_it(tmp_path: Path) -> None:
    write_trained_chain(tmp_path)
    (trained,) = document(tmp_path).trainings
    assert trained.kind == "checkpoint" and trained.curves is not None
    assert [curve.name for curve in trained.curves.losses] == ["total", "ce", "halt", "step"]
    assert [curve.name for curve in trained.curves.validation] == ["0 slots", "1 slot", "2 slots", "10 slots"]
    assert trained.deepest == [("text", 0.5), ("spans", 0.9)] and trained.depths == ["1", "2", "10"]
    assert trained.reliability == ((90, 0.05, 0.1), (10, 0.9, 0.8))


def test_without_the_checkpoint_the_exports_account_remains(tmp_path: Path) -> None:
    made = write_trained_chain(tmp_path)
    for file in (tmp_path / "checkpoint").iterdir():
        file.unlink()
    (trained,) = document(tmp_path).trainings
    assert (trained.kind, trained.digest, trained.curves) == ("export", made["export"]["digest"], None)


@pytest.mark.parametrize("damage", [b'{"step": 1}\n', b"[]\n", b"\xff\n", b'{"step": NaN}\n'])
def test_a_log_that_is_not_the_contracts_is_not_shown(tmp_path: Path, damage: bytes) -> None:
    write_trained_chain(tmp_path)
    (tmp_path / "checkpoint" / LOG).write_bytes(damage)
    (trained,) = document(tmp_path, "checkpoint").trainings
    assert trained.curves is None and trained.problem and LOG in trained.problem


def test_a_log_that_says_no_steps_is_not_shown(tmp_path: Path) -> None:
    """Its digest is right: whoever made it could write anything."""
    write_trained_chain(tmp_path, log=b'{"step": "one"}\n')
    (trained,) = document(tmp_path, "checkpoint").trainings
    assert trained.curves is None and trained.problem and "line 1" in trained.problem


def drawn(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (place.split() for place in path.lstrip("M").split(" L"))]


def shown(lines: list[Line]) -> list[charts.Chart]:
    training = Training.model_validate_json(json.dumps(TRAINING))
    return charts.charts(Trained(kind="checkpoint", digest="0" * 64, training=training, curves=curves_of(lines)))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_curves_stay_in_their_frame_and_lower_is_lower(values: list[float]) -> None:
    lines = [Line(step=number, lr=value / 1e7, replaced=0, total=value, norm=0.0, losses={}) for number, value in enumerate(values, 1)]
    for chart in shown(lines)[:2]:
        for line in chart.lines:
            places = drawn(line.path)
            assert all(charts.LEFT <= x <= charts.RIGHT and charts.TOP - 0.01 <= y <= charts.BOTTOM + 0.01 for x, y in places)
            assert [x for x, _ in places] == sorted(x for x, _ in places)
        assert 1 <= len(chart.y_ticks) <= 20 and all(charts.TOP - 0.01 <= y <= charts.BOTTOM + 0.01 for y, _ in chart.y_ticks)
    (total,) = shown(lines)[0].lines
    if len(values) <= MOST_POINTS:
        for (first, (_, one)), (second, (_, two)) in zip(pairs := [*zip(values, drawn(total.path), strict=True)], pairs[1:], strict=False):
            assert not (first > 1.01 * second + charts.LEAST and one > two), "a greater loss stands lower"


def test_ticks_say_what_stands_at_their_place() -> None:
    lines = [Line(step=step, lr=6e-4, replaced=0, total=10.0 ** (-step), norm=0.0, losses={}) for step in (1, 2, 3)]
    chart = shown(lines)[0]
    places = {float(name): y for y, name in chart.y_ticks}
    assert [drawn(chart.lines[0].path)[at][1] for at in range(3)] == [pytest.approx(places[value], abs=0.02) for value in (0.1, 0.01, 0.001)]
    rate = next(chart for chart in shown(lines) if chart.title == "Learning rate")
    assert [name for _, name in rate.y_ticks] == ["0", "2e-4", "4e-4", "6e-4"]


def test_a_long_log_is_two_hundred_points(tmp_path: Path) -> None:
    log = b"".join(json.dumps(one).encode() + b"\n" for one in log_lines(5000))
    write_trained_chain(tmp_path, log=log)
    (trained,) = document(tmp_path, "checkpoint").trainings
    assert trained.curves is not None
    curves = [trained.curves.losses, trained.curves.validation, (trained.curves.rate,), *trained.curves.accuracy.values()]
    assert {len(curve.points) for some in curves for curve in some} == {MOST_POINTS}
