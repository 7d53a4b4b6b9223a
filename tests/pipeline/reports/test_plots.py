"""Figures: what stands beyond a limit is marked, what does not is not, and every value has a place inside the frame."""

from __future__ import annotations

import json

import pytest
from fakes.chains import GOLDEN

from interlock.contracts import package
from interlock.contracts.export import ShapeResult, ShapeValidation
from interlock.contracts.package import Evidence, FrontierPoint, Gate, Thresholds
from pipeline.reports import plots

LIMITS = Thresholds(psnr_db=40.0, kl_mean=1e-3, kl_max=1e-2)


def gate(*evidence: Evidence) -> Gate:
    document = json.loads((GOLDEN / package.FILE).read_bytes())["gate"]
    return Gate.model_validate_json(json.dumps(document)).model_copy(update={"evidence": evidence, "thresholds": LIMITS})


def logits(psnr: float | None, mean: float = 0.0, greatest: float = 0.0, output: str = "logits") -> Evidence:
    return Evidence(function="decode", tokens=1, output=output, positions=1, finite=psnr is not None, psnr_db=psnr, kl_mean=mean, kl_max=greatest)


@pytest.mark.parametrize(("psnr", "ok"), [(39.9, False), (40.0, True), (200.0, True), (-5.0, False)])
def test_a_figure_below_its_threshold_is_marked(psnr: float, ok: bool) -> None:
    plot = plots.decibels(gate(logits(psnr)))
    (point,) = plot.rows[0].points
    assert point.ok is ok and plot.missed is not ok and (point.x >= plot.limits[0].x) is ok
    assert plots.LEFT <= point.x <= plots.RIGHT


@pytest.mark.parametrize(
    ("mean", "greatest", "fits"), [(9e-4, 9e-3, [True, True]), (2e-3, 9e-3, [False, True]), (9e-4, 2e-2, [True, False]), (0.0, 0.0, [True, True])]
)
def test_mean_and_greatest_are_judged_by_their_own_limits(mean: float, greatest: float, fits: list[bool]) -> None:
    plot = plots.divergences(gate(logits(50.0, mean, greatest)))
    assert plot is not None
    points = plot.rows[0].points
    assert [point.ok for point in points] == fits
    assert [point.x <= limit.x for point, limit in zip(points, plot.limits, strict=True)] == fits
    assert all(plots.LEFT <= point.x <= plots.RIGHT for point in points)


def test_only_logits_are_judged_by_divergence() -> None:
    plot = plots.divergences(gate(logits(50.0, 1.0, 5.0, "halt_logits")))
    assert plot is not None and not plot.missed


def test_a_value_that_is_not_finite_is_named_and_has_no_mark() -> None:
    row = plots.decibels(gate(logits(None), logits(50.0, output="hidden"))).rows[0]
    assert len(row.points) == 1 and row.note == "not finite: logits"


def test_a_rejected_length_is_named() -> None:
    results = {"64": ShapeResult(status="ok", psnr_db=80.0, decode_psnr_db=75.0), "512": ShapeResult(status="rejected", error="no memory")}
    plot = plots.lengths(ShapeValidation(primary_shape=64, primary_ok=True, all_ok=False, results=results), 70.0)
    assert [(row.label, row.note, len(row.points)) for row in plot.rows] == [("64 tokens, primary", "", 2), ("512 tokens", "rejected", 0)]


def test_a_frontier_goes_down_to_the_right_and_needs_two_points() -> None:
    points = [FrontierPoint(weight_bytes=size, kl_predicted=kl, forms={"int8": 1}) for size, kl in ((300, 1e-6), (100, 1e-2), (200, 1e-4))]
    plot = plots.frontier(points)
    assert plot is not None
    xs, ys = [mark[0] for mark in plot.points], [mark[1] for mark in plot.points]
    assert xs == sorted(xs) and ys == sorted(ys) and plots.frontier(points[:1]) is None
