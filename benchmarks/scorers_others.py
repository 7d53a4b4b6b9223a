"""What scikit-learn, scipy, statsmodels and jsonschema say of the cases of scorers.py, and how far ours is from it.

Here: one function for each kind of case. Not here: the cases. A file of its own, because it runs where nothing of interlock is installed: cases on
standard input, a document on standard output.
"""

import json
import sys

import numpy as np
from jsonschema import Draft202012Validator
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint


def rate(right, n, confidence):
    return proportion_confint(right, n, 1 - confidence, method="wilson")


def pairs(a, b, c, d):
    return [mcnemar([[a, b], [c, d]], exact=True).pvalue]


def many(*probabilities):
    return multipletests(probabilities, method="holm")[1]


def difference(gained, lost, n, confidence):
    """Where the score test turns, with the likelihood maximised by numbers."""

    def score(delta):
        def unlikely(q):
            cells = ((gained, q + delta), (lost, q), (n - gained - lost, 1 - 2 * q - delta))
            return -sum(count * np.log(max(p, 1e-300)) for count, p in cells if count)

        q = minimize_scalar(unlikely, bounds=(max(0.0, -delta), (1 - delta) / 2), method="bounded", options={"xatol": 1e-13}).x
        return (gained - lost - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta)))

    z, near = norm.ppf(0.5 + confidence / 2), (gained - lost) / n
    return [brentq(lambda delta: score(delta) - z, -0.999, near), brentq(lambda delta: score(delta) + z, near, 0.999)]


def calibration(said, truth):
    edges = np.linspace(0, 1, 11)
    true, mean = calibration_curve(truth, said, n_bins=10)
    counts = np.histogram(said, edges)[0]
    return [float(np.sum(counts[counts > 0] * np.abs(true - mean)) / len(said))]


def spans(*found):
    return [f1_score([int(one) for one in found], [1] * len(found), zero_division=0.0) if found else 0.0]


def divergence(tables, tokens):
    ours, theirs = np.asarray(tables, np.float32).astype(np.float64)
    kl = rel_entr(softmax(theirs, axis=1), softmax(ours, axis=1)).sum(axis=1)
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    change = [np.exp(log_softmax(ours[k])[token]) - np.exp(log_softmax(theirs[k])[token]) for k, token in enumerate(tokens)]
    return [*kl, *same.astype(float), *change]


def arguments(schema, given):
    return [float(Draft202012Validator(schema).is_valid(given))]


def expected(wanted, given):
    properties = {name: {"enum": one if isinstance(one, list) else [one]} for name, one in wanted.items()}
    schema = {"type": "object", "properties": properties, "required": list(wanted), "additionalProperties": False}
    return [float(Draft202012Validator(schema).is_valid(given))]


# By kind: whose function, the function, and what rounding may leave between equal formulas (bounded minimisation: 1e-5).
OTHERS = {
    "interval of a rate (Wilson)": ("statsmodels.proportion_confint", rate, 1e-9),
    "paired test (McNemar, exact)": ("statsmodels.mcnemar", pairs, 1e-9),
    "paired interval (Tango)": ("scipy.optimize, the likelihood itself", difference, 1e-5),
    "many tests (Holm)": ("statsmodels.multipletests", many, 1e-9),
    "area under the curve": ("sklearn.roc_auc_score", lambda said, truth: [roc_auc_score(truth, said)], 1e-9),
    "Brier's score": ("sklearn.brier_score_loss", lambda said, truth: [brier_score_loss(truth, said)], 1e-9),
    "calibration error": ("sklearn.calibration_curve", calibration, 1e-9),
    "F1 of spans": ("sklearn.f1_score", spans, 1e-9),
    "KL, same top, change of a token": ("scipy.special.rel_entr, log_softmax", divergence, 1e-6),
    "arguments that a tool takes": ("jsonschema.Draft202012Validator", arguments, 0.0),
    "arguments as expected": ("jsonschema.Draft202012Validator", expected, 0.0),
}


def main():
    report = {}
    for name, cases in json.load(sys.stdin).items():
        beside, function, rounding = OTHERS[name]
        # relative to the larger one above 1: a divergence has nine digits
        far = [
            max((abs(a - b) / max(1.0, abs(b)) for a, b in zip(case["ours"], function(*case["given"]), strict=True)), default=0.0) for case in cases
        ]
        report[name] = {"beside": beside, "cases": len(cases), "differ": int(sum(one > rounding for one in far)), "largest": float(max(far))}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
