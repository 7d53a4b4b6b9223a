"""The arithmetic of a head, beside other ways to the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fakes.halt_traces import planted, trace

from eval.statistics.clusters import by_cluster, ratio_interval
from eval.statistics.intervals import wilson
from eval.statistics.probabilities import auc, brier, ece
from interlock.errors import StageFailed
from pipeline.halting.calibration import calibration
from pipeline.halting.dialogues import FAMILIES
from pipeline.halting.fit import FOLDS, folds, logistic, out_of_fold, platt
from pipeline.halting.recipe import cross_entropy, evidence, fitted, head_of
from pipeline.halting.threshold import choose, share_saved, stops
from pipeline.halting.traces import OWN_END, TOO_EARLY, taught, weights


def objective(x: np.ndarray, y: np.ndarray, l2: float, weight: np.ndarray, bias: float) -> float:
    """Mean cross-entropy by its definition, and the penalty on weights of standardised features."""
    p = 1 / (1 + np.exp(-(x @ weight + bias)))
    return float(-np.mean(np.where(y, np.log(p), np.log(1 - p))) + l2 / 2 * np.sum((weight * x.std(0, ddof=1)) ** 2))


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_the_fit_is_where_the_objective_is_flat(l2: float) -> None:
    """It is convex, so that a point without slope is its minimum. Slopes by central differences in each standardised direction."""
    chance = np.random.default_rng(1)
    x = chance.normal(size=(400, 5)) * [1, 3, 0.1, 10, 1] + [0, 5, 0, -20, 1]
    y = chance.random(400) < 1 / (1 + np.exp(-(x[:, 0] - 0.2 * (x[:, 1] - 5))))
    made = logistic(x, y, l2)
    least, step = objective(x, y, l2, made.weight, made.bias), 1e-4
    for direction in (*np.diag(1 / x.std(0, ddof=1)), None):
        move = (np.zeros(5), step) if direction is None else (step * direction, -step * direction @ x.mean(0))
        around = [objective(x, y, l2, made.weight + sign * move[0], made.bias + sign * move[1]) for sign in (1, -1)]
        assert abs(around[0] - around[1]) / (2 * step) < 1e-6 and min(around) > least


def test_what_counts_three_times_is_fitted_as_if_it_stood_there_three_times() -> None:
    """Moments given, so that both are standardised alike: columns of -1 and 1 in pairs, weighed alike."""
    x, y = np.array([[1.0], [-1.0]] * 6), np.array([True, False, False, True] + [True, False] * 4)
    times = np.array([3.0] * 4 + [1.0] * 8)
    weighed, repeated = logistic(x, y, 0.0, times), logistic(np.repeat(x, times.astype(int), 0), np.repeat(y, times.astype(int)), 0.0)
    assert math.isclose(weighed.weight[0], repeated.weight[0], rel_tol=1e-9) and math.isclose(weighed.bias, repeated.bias, abs_tol=1e-9)


def test_places_weigh_what_a_mistake_costs_there() -> None:
    some = [trace(at=[2, 4, 6], length=6, end=4, ended=True), trace(at=[2, 4], length=4, end=None, ended=True)]
    assert weights(some).tolist() == [TOO_EARLY, 1.0, OWN_END, TOO_EARLY] and len(weights(some)) == len(taught(some)[1])


def test_one_feature_of_two_values_is_fitted_to_the_log_odds_of_its_groups() -> None:
    """The closed form without a penalty: 3 of 4 and 1 of 5 are complete."""
    x, y = np.array([[1.0]] * 4 + [[-1.0]] * 5), np.array([True] * 3 + [False] + [True] + [False] * 4)
    made = logistic(x, y, 0.0)
    assert math.isclose(made.weight[0] + made.bias, math.log(3), rel_tol=1e-6) and math.isclose(
        made.bias - made.weight[0], -math.log(4), rel_tol=1e-6
    )


def test_platt_undoes_a_known_scale_and_shift() -> None:
    """Scores that are log-odds times 3 minus 1 come back with scale 1/3 and shift 1/3, as far as 20,000 draws tell."""
    chance = np.random.default_rng(2)
    true = chance.normal(size=20_000) * 2
    some = [trace(complete=[bool(one)], at=[1], length=2) for one in chance.random(20_000) < 1 / (1 + np.exp(-true))]
    scale, shift = platt(some, [np.array([3 * one - 1]) for one in true])
    assert abs(scale - 1 / 3) < 0.02 and abs(shift - 1 / 3) < 0.05


def test_folds_share_no_template_and_each_has_all_families() -> None:
    some = [trace(template=f"{family} {i}", family=family) for family in FAMILIES for i in range(10)]
    fold = folds(some)
    assert set(fold) == set(range(FOLDS))
    for one in range(FOLDS):
        assert {t.family for t, its in zip(some, fold, strict=True) if its == one} == set(FAMILIES)
    assert all(len({its for t, its in zip(some, fold, strict=True) if t.template == name}) == 1 for name in {t.template for t in some})


def test_scores_out_of_fold_know_nothing_of_their_template() -> None:
    """Truth that is a coin per template, with a feature that names the template: in sample perfect, out of fold a guess."""
    chance = np.random.default_rng(3)
    some = []
    for i in range(40):
        vector, coin = np.eye(40)[i] + chance.normal(size=40) * 0.01, bool(chance.integers(2))
        some += [trace(template=str(i), complete=[coin], at=[1], length=2, hidden=[vector]) for _ in range(5)]
    inside = logistic(*taught(some), 1e-3).scores(some)
    truth = np.array([t.complete[0] for t in some])
    assert auc(np.concatenate(inside), truth) == 1.0
    assert auc(np.concatenate(out_of_fold(some, 1e-3)), truth) < 0.7


def test_the_threshold_is_the_least_that_cuts_no_more_than_it_may() -> None:
    some, scores = planted(answers=500, seed=4)
    for most in (0.0, 0.002, 0.01, 0.1):
        threshold = choose(some, scores, most)
        cut = sum(stop.cut for stop in stops(some, scores, threshold))
        assert cut <= most * len(some)
        below = np.nextafter(threshold, -np.inf)  # the score itself, which the threshold lies just above
        assert sum(stop.cut for stop in stops(some, scores, below)) == int(most * len(some)) + 1


def test_stops_count_what_was_saved_cut_and_lost() -> None:
    """Content after 4 of 10 tokens, end after 5, places at 3, 5 and 8."""
    one = trace(at=[3, 5, 8], length=10, content=4, end=5)
    for scores, expected in (
        ([0, 1, 1], (True, False, False, 5, 5)),
        ([0, 0, 1], (True, False, False, 2, 5)),
        ([1, 1, 1], (True, True, True, 0, 5)),
        ([0, 0, 0], (False, False, False, 0, 5)),
    ):
        (stop,) = stops([one], [np.array(scores, float)], 0.5)
        assert (stop.stopped, stop.cut, stop.lost, stop.saved, stop.after) == expected
    (never,) = stops([trace(at=[3], length=10, content=None, end=None)], [np.array([1.0])], 0.5)
    assert never.cut and never.lost and never.saved == never.after == 0
    assert share_saved([never]) == 0


def test_where_the_model_itself_ends_too_early_nothing_is_taught_and_hard_places_leave_its_ends_out() -> None:
    early, done = trace(at=[2, 4], length=4, end=None, ended=True), trace(at=[2, 4], length=4, end=2, ended=True)
    assert early.teaches.tolist() == [True, False] and done.teaches.tolist() == [True, True]
    assert len(taught([early, done])[1]) == 3 and taught([early, done], hard=True)[1].tolist() == [False, True]


def test_auc_counts_pairs_and_ties_half() -> None:
    chance = np.random.default_rng(5)
    z, y = chance.integers(0, 6, 80).astype(float), chance.random(80) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in z[y] for b in z[~y]]
    assert math.isclose(auc(z, y), float(np.mean(pairs)))
    assert math.isnan(auc(z, np.ones(80, bool)))


@pytest.mark.parametrize(
    ("count", "total", "low", "high"), [(15, 15, 0.796, 1.0), (95, 100, 0.888, 0.978), (6, 574, 0.0048, 0.0226), (0, 300, 0, 0.0127)]
)
def test_wilson_gives_published_bounds(count: int, total: int, low: float, high: float) -> None:
    assert wilson(count, total, 0.95)[1:] == pytest.approx((low, high), abs=6e-4)


def test_calibration_figures_are_zero_for_truth_and_known_for_a_constant() -> None:
    y = np.array([True, False] * 50)
    assert brier(y.astype(float), y) == 0 == ece(y.astype(float), y)
    half, sure = np.full(100, 0.5), np.full(100, 0.9)
    assert brier(half, y) == 0.25 and ece(half, y) == 0
    assert math.isclose(ece(sure, y), 0.4) and math.isclose(brier(sure, y), 0.41)


def test_resampling_by_cluster_is_as_wide_as_clusters_are_few() -> None:
    """A mean over 25 clusters of 20 equal values has the standard error of 25 draws, not of 500."""
    chance = np.random.default_rng(6)
    values = np.repeat(chance.normal(size=25), 20)
    low, high = ratio_interval([str(i // 20) for i in range(500)], values.tolist(), [1.0] * 500)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 5, rel=0.15)
    assert by_cluster(["a", "a"], lambda drawn: drawn[:, 0].astype(float)) == (1.0, 1.0)


def test_the_recipe_finds_a_planted_head_and_says_what_it_is_worth() -> None:
    some, _ = planted(answers=600, seed=7)
    made = fitted(some, 0.01)
    said = evidence(some, made.scores, made.threshold)
    assert said["cut"] <= 0.01 < said["cut_high"] and said["saved_low"] <= said["saved"] <= said["saved_high"]
    assert said["saved"] > 0.5 and said["auc"] > 0.95 and cross_entropy(some, made.scores) < 0.4
    head = head_of(made, some, "0" * 64)
    logits = some[0].answer.hidden @ head.weight.numpy().T + head.bias.numpy()
    assert np.allclose(logits[:, 1] - logits[:, 0], made.linear.scores(some[:1])[0], atol=1e-4)  # softmax(halt) = sigmoid(z)
    assert head.facts.threshold == pytest.approx(1 / (1 + math.exp(-made.threshold)), rel=1e-5)


def test_calibration_measures_a_given_head_and_chooses_its_threshold() -> None:
    """Rows [-z/2, z/2] of the planted direction: the threshold is the probability of the score that `choose` finds."""
    some, _ = planted(answers=400, seed=8)
    linear = fitted(some, 0.01).linear
    weight, bias = np.stack([-linear.weight, linear.weight]) / 2, np.array([-linear.bias, linear.bias]) / 2
    found, curve = calibration(some, weight, bias, 0.01)
    z = choose(some, linear.scores(some), 0.01)
    assert found.threshold == pytest.approx(1 / (1 + math.exp(-z)), rel=1e-9) and found.evidence["cut"] <= 0.01 and found.answers == 400
    assert sum(count for count, _, _ in curve) == sum(int(trace.teaches.sum()) for trace in some)
    with pytest.raises(StageFailed, match="ever complete"):
        calibration([trace(at=[1], length=2)], weight, bias, 0.01)
