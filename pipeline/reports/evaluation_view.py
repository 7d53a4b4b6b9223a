"""An evaluation as the page, the comment and the XML show it: items that were missed first, each with what is to be read about it.

Here: order and choice. Not here: figures (eval), HTML (templates), where it is written (pipeline/stages/eval.py).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval.comparison import Compared
from interlock.contracts.evaluation import GateResult

# More items than a browser searches without a pause; the rest is in results.jsonl.
MOST = 2000
# Words of two answers whose differences are sought: difflib's time grows with their product.
MOST_WORDS = 2000

Piece = tuple[Literal["same", "gone", "new"], str]


@dataclass(frozen=True)
class ItemView:
    """One item: `missed` are the gates that it counts against (where nothing was claimed, the figures), `figures` those that it counts against
    and no gate is about; `flip` is its change against another run, `before` what was said there, by way."""

    row: Mapping[str, Any]
    missed: tuple[str, ...]
    figures: tuple[str, ...]
    flip: str
    words: str
    before: Mapping[str, str]

    @property
    def state(self) -> str:
        """`lost` or `gained` with the score, `gate`, `figure` or `nothing`: what it misses."""
        return self.flip or ("gate" if self.missed else "figure" if self.figures else "nothing")

    def changes(self, way: str) -> list[Piece]:
        """What was said there and here, word by word; nothing where there is no difference."""
        old, now = self.before.get(way), str(self.row["answers"][way]["text"])
        return pieces(old, now) if old is not None and old != now else []


def pieces(old: str, new: str) -> list[Piece]:
    """Two texts as one: what both have, what is gone, what is new. Words are whole, with the white space behind them."""
    before, now = (re.findall(r"\S+\s*|\s+", text)[:MOST_WORDS] for text in (old, new))
    found: list[Piece] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if kind == "equal":
            found.append(("same", "".join(before[a:b])))
        else:
            found += [("gone", text) for text in ["".join(before[a:b])] if text]
            found += [("new", text) for text in ["".join(now[c:d])] if text]
    return found


@dataclass(frozen=True)
class View:
    """A whole evaluation. `told`: facts by name; `gates`: failed ones first; `summary`: that of summary.json; `compared`: scores against another
    run, by the name `other`."""

    suite: str
    verdict: str
    told: tuple[tuple[str, str], ...]
    gates: tuple[GateResult, ...]
    summary: Mapping[str, Any]
    items: tuple[ItemView, ...]
    left_out: int
    compared: tuple[Compared, ...] = ()
    other: str = ""

    @property
    def strata(self) -> dict[str, list[str]]:
        """Names and values to filter by."""
        return {name: list(groups) for name, groups in self.summary["by"].items()}

    def missed(self, metric: str) -> list[str]:
        """The items that count against a figure."""
        return list(self.summary["figures"].get(metric, {}).get("missed", ()))

    def words(self, metric: str) -> str:
        """What a figure says; nothing where the evaluation is older than these words."""
        return str(self.summary["figures"].get(metric, {}).get("words", ""))

    @property
    def scores(self) -> list[str]:
        """Truths to filter by."""
        names = dict.fromkeys(name for item in self.items for name, score in item.row["scores"].items() if isinstance(score, bool))
        return list(names)


def view(body: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> View:
    """body: the fields of the contract's body."""
    gates = tuple(sorted(body["gates"], key=lambda gate: ("fail", "inconclusive", "pass").index(gate.verdict)))
    subject = body["subject"]
    told: tuple[tuple[str, str], ...] = (
        ("model", ", ".join(filter(None, (subject.name, (subject.digest or "")[:16], subject.fingerprint)))),
        ("runner", str(body["runner"])),
        *((("backend", str(body["backend"])),) if body["backend"] else ()),
        ("items", str(body["items"])),
        ("most tokens", str(body["decoding"].max_new_tokens)),
    )
    told += tuple((name.replace("_", " "), str(value)[: 16 if name == "against" else 64]) for name, value in summary.get("asked", {}).items())
    fixtures = body.get("fixtures")
    told += (("replayed calls", f"{fixtures.asked}, {fixtures.missed} of them without a recorded result"),) if fixtures else ()
    items, left_out = _items(rows, gates, summary, {}, {})
    return View(body["suite"], body["verdict"], told, gates, summary, items, left_out)


def compared(base: View, rows: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]], found: Sequence[Compared], other: str) -> View:
    """The same evaluation beside another one, whose rows are `before`: flips stand first."""
    flips = {item: f"lost {one.score}" for one in found for item in one.lost}
    flips |= {item: f"gained {one.score}" for one in found for item in one.gained if item not in flips}
    said = {row["id"]: {way: str(answer["text"]) for way, answer in row["answers"].items()} for row in before}
    items, left_out = _items(rows, base.gates, base.summary, flips, said)
    return View(base.suite, base.verdict, base.told, base.gates, base.summary, items, left_out, tuple(found), other)


def _missed(names: Iterable[str], summary: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """By item, the figures of these that it counts against."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        for item in summary["figures"].get(name, {}).get("missed", ()):
            found[item] = (*found.get(item, ()), name)
    return found


def _items(
    rows: Sequence[Mapping[str, Any]],
    gates: Sequence[GateResult],
    summary: Mapping[str, Any],
    flips: Mapping[str, str],
    before: Mapping[str, Mapping[str, str]],
) -> tuple[tuple[ItemView, ...], int]:
    """Lost ones first, then gained ones, then those that a gate missed, those that a figure did, then by id."""
    gated = [gate.metric for gate in gates] or list(summary["figures"])
    missed, beside = _missed(gated, summary), _missed((name for name in summary["figures"] if name not in gated), summary)
    made = [
        ItemView(row, missed.get(row["id"], ()), beside.get(row["id"], ()), flips.get(row["id"], ""), _words(row), before.get(row["id"], {}))
        for row in rows
    ]
    order = ("lost", "gained", "gate", "figure", "nothing")
    made.sort(key=lambda item: (order.index(item.state.split(" ")[0]), item.row["id"]))
    return tuple(made[:MOST]), max(0, len(made) - MOST)


def _words(row: Mapping[str, Any]) -> str:
    """What a search looks at."""
    said = " ".join(str(answer["text"]) for answer in row["answers"].values())
    return f"{row['id']} {row['given']} {row['wanted']} {said}".casefold()[:4000]
