"""Scores, rates, tests and intervals of ours beside scikit-learn, scipy, statsmodels and jsonschema, on generated cases.

Here: the cases, what ours says of them, the table. Not here: what the others say (scorers_others.py, which runs in an environment of its own, made
from scorers.lock). Run: `envs/train/.venv/bin/python -m benchmarks.scorers`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.entry import run as run_entry
from interlock import command
from interlock.environments import ROOT

if TYPE_CHECKING:
    import argparse

Case = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.scorers`."""
    told = "scores of ours beside independent implementations"
    parser = command.parser("python -m benchmarks.scorers", told, "python -m benchmarks.scorers --cases 1000")
    parser.add_argument("--cases", type=int, default=1000, metavar="N", help="generated cases of each kind (default %(default)s)")
    return run_entry(parser, command.words(argv), _measure, table)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    chance = random.Random(9)  # noqa: S311 - cases, nothing secret
    asked = {name: [make(chance) for _ in range(options.cases)] for name, make in KINDS.items()}
    with tempfile.TemporaryDirectory(prefix="scorers-") as scratch:
        python = _environment(Path(scratch) / "others")
        words = [str(python), "-I", str(Path(__file__).with_name("scorers_others.py"))]
        said = subprocess.run(words, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True).stdout
    return {"cases": options.cases, "kinds": json.loads(said)}


def _environment(folder: Path) -> Path:
    """The others, from the lock. Returns its interpreter."""
    python, lock = folder / "bin" / "python", Path(__file__).with_name("scorers.lock")
    for words in (["venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)],
                  ["pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(lock)]):  # fmt: skip
        subprocess.run([ROOT / "ci" / "env", "uv", *words], check=True)
    return python


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    lines = [f"{report['cases']} generated cases of each kind", f"{'what':<34}{'beside':<42}{'cases':>6}{'differ':>8}{'largest difference':>20}"]
    for name, one in report["kinds"].items():
        lines.append(f"{name:<34}{one['beside']:<42}{one['cases']:>6}{one['differ']:>8}{one['largest']:>20.1e}")
    return lines


def _rate(chance: random.Random) -> Case:
    from eval.statistics.intervals import wilson

    n = chance.randrange(1, 2000)
    right, confidence = chance.randrange(n + 1), chance.choice([0.9, 0.95, 0.99])
    return {"given": [right, n, confidence], "ours": list(wilson(right, n, confidence)[1:])}


def _pairs(chance: random.Random) -> Case:
    """Both directions: the other library's test is two-sided."""
    from eval.statistics.paired import mcnemar

    now, before = ([chance.random() < share for _ in range(chance_n)] for chance_n in [chance.randrange(1, 120)] for share in (0.7, 0.8))
    cells = [sum(a == x and b == y for a, b in zip(now, before, strict=True)) for x in (True, False) for y in (True, False)]
    return {"given": cells, "ours": [min(1.0, 2 * min(mcnemar(now, before), mcnemar(before, now)))]}


def _many(chance: random.Random) -> Case:
    from eval.statistics.paired import holm

    drawn = {str(number): chance.random() ** 3 for number in range(chance.randrange(1, 12))}
    return {"given": list(drawn.values()), "ours": list(holm(drawn).values())}


def _difference(chance: random.Random) -> Case:
    from eval.statistics.paired import difference

    n = chance.randrange(5, 300)
    gained = chance.randrange(1, max(2, n // 3))
    lost, confidence = chance.randrange(1, max(2, n // 3)), chance.choice([0.9, 0.95, 0.99])
    return {"given": [gained, lost, n, confidence], "ours": list(difference(gained, lost, n, confidence)[1:])}


def _probabilities(chance: random.Random) -> tuple[list[float], list[bool]]:
    said = [round(chance.random(), chance.choice([1, 9])) * 0.999 for _ in range(chance.randrange(4, 60))]
    truth = [chance.random() < one for one in said]
    truth[:2] = True, False
    return said, truth


def _of_probabilities(name: str) -> Callable[[random.Random], Case]:
    def make(chance: random.Random) -> Case:
        import numpy as np

        from eval.statistics import probabilities

        said, truth = _probabilities(chance)
        return {"given": [said, truth], "ours": [float(getattr(probabilities, name)(np.array(said), np.array(truth)))]}

    return make


def _spans(chance: random.Random) -> Case:
    from eval.scoring.grounding import f1

    found = [chance.random() < 0.6 for _ in range(chance.randrange(0, 4))]
    return {"given": found, "ours": [f1(found)]}


def _divergence(chance: random.Random) -> Case:
    """By suite parity's own walk, over tables of logits in place of two models."""
    import numpy as np

    from eval.asking.parity import along

    numbers = np.random.default_rng(chance.randrange(1 << 30))
    tables = numbers.normal(0, chance.choice([0.1, 3, 12]), (2, 3, 40)).astype(np.float32)

    def model(table: Any) -> Any:
        steps = iter([SimpleNamespace(logits=row) for row in table])
        return SimpleNamespace(new_cache=lambda: None, prefill=lambda *_: next(steps), decode=lambda *_: next(steps))

    kl, same, change = along(model(tables[0]), model(tables[1]), [1], [3, 5, 7])
    return {"given": [tables.tolist(), [3, 5, 7]], "ours": [*kl, *same, *change]}


VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda chance: chance.randrange(-3, 13), lambda chance: chance.choice(["a", "b", "c", "", "Gugeam", "12"]), lambda chance: chance.random() < 0.5,
    lambda chance: round(chance.uniform(-3, 12), 2) + 0.005, lambda chance: [1], lambda chance: None,
)  # fmt: skip


def _arguments(chance: random.Random) -> Case:
    """A tool with properties of all kinds, and arguments of which about a third suit it."""
    from eval.broker.tools import Tool, wrong_arguments

    kinds: list[dict[str, Any]] = [
        {"type": "integer", "minimum": chance.randrange(-2, 3), "maximum": chance.randrange(5, 12)}, {"type": "string"}, {"type": "boolean"},
        {"type": "string", "enum": ["a", "b"]}, {"type": "number", "minimum": -1.5}, {"type": "integer", "enum": [1, 2, 3]},
    ]  # fmt: skip
    properties = {name: chance.choice(kinds) for name in "pqrs"[: chance.randrange(1, 5)]}
    required = [name for name in properties if chance.random() < 0.5]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    fits = {"integer": 0, "string": 1, "boolean": 2, "number": 3}
    given: dict[str, Any] = {
        name: VALUES[fits[one["type"]] if chance.random() < 0.9 else chance.randrange(len(VALUES))](chance) for name, one in properties.items()
    }
    for name in [name for name in given if chance.random() < 0.15]:
        del given[name]
    if chance.random() < 0.1:
        given["other"] = 1
    tool = Tool.model_validate_json(json.dumps({"description": "", "parameters": schema}))
    return {"given": [schema, given], "ours": [float(not list(wrong_arguments(tool, given)))]}


def _expected(chance: random.Random) -> Case:
    """Arguments by structure; a list stands for the values that are accepted."""
    from eval.scoring.calls import accepts

    def value() -> Any:
        return VALUES[chance.randrange(4)](chance)

    expected = {name: [value() for _ in range(chance.randrange(1, 4))] if chance.random() < 0.4 else value() for name in "pqr"}
    given = {name: chance.choice(one) if isinstance(one, list) else one for name, one in expected.items()}
    for name in list(given):
        if chance.random() < 0.15:
            given[name] = value()
        elif chance.random() < 0.05:
            del given[name]
    if chance.random() < 0.05:
        given["other"] = value()
    return {"given": [expected, given], "ours": [float(accepts(expected, given))]}


KINDS: dict[str, Callable[[random.Random], Case]] = {
    "interval of a rate (Wilson)": _rate,
    "paired test (McNemar, exact)": _pairs,
    "paired interval (Tango)": _difference,
    "many tests (Holm)": _many,
    "area under the curve": _of_probabilities("auc"),
    "Brier's score": _of_probabilities("brier"),
    "calibration error": _of_probabilities("ece"),
    "F1 of spans": _spans,
    "KL, same top, change of a token": _divergence,
    "arguments that a tool takes": _arguments,
    "arguments as expected": _expected,
}


if __name__ == "__main__":
    sys.exit(main())
