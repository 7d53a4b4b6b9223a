"""An evaluation as one self-contained page, as XML for CI, and as a comment.

Here: filling the template, the two small forms. Not here: what is shown (evaluation_view.py), its look (templates).
The page runs one script of its own, named in its policy by digest: it hides items that a filter leaves out. Without scripts all of them are there.
"""

from __future__ import annotations

import base64
import hashlib
from xml.etree import ElementTree as ET

from eval.comparison import Compared
from eval.statistics.gates import enough, stops
from interlock.contracts.evaluation import GateResult
from interlock.voice import plain
from pipeline.reports.evaluation_view import View
from pipeline.reports.page import TEMPLATES, render

SCRIPT = (TEMPLATES / "evaluation.js").read_text(encoding="utf-8")
# Items that are named; all of them are on the page.
SHOWN = 20


def evaluation_page(view: View) -> str:
    """The whole page."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return render("evaluation.html.j2", view=view, script=SCRIPT, script_digest=digest, title=f"{view.suite}: {view.verdict}", place=place,
                  sentence=sentence)  # fmt: skip


def place(gate: GateResult) -> dict[str, float] | None:
    """Where a gate's interval and threshold lie on a line of 100: from 0 to 1 for rates, else from 0 to somewhat above the greatest of them."""
    if gate.measured is None or gate.low is None or gate.high is None:
        return None
    ends = [gate.low, gate.high, gate.threshold]
    low, high = min(0.0, *ends), max(1.0 if max(ends) > 0.2 else 0.0, 1.1 * max(ends), 1e-12)
    return {name: 100 * (value - low) / (high - low) for name, value in
            (("low", gate.low), ("high", gate.high), ("measured", gate.measured), ("threshold", gate.threshold))}  # fmt: skip


def sentence(gate: GateResult) -> str:
    """What a gate found, in words."""
    if gate.measured is None:
        return f"{gate.n} items were eligible: too few to say anything" if gate.n else "no item was eligible"
    if gate.method == "count":
        return f"{gate.measured:.0f} among {gate.n} items, {gate.claim} {gate.threshold:g}"
    interval = f"{gate.confidence:.0%} interval {gate.low:.4g} to {gate.high:.4g}"
    found = f"measured {gate.measured:.4g} on {gate.n} items, {interval}; claimed {gate.claim} {gate.threshold:g}"
    return f"{found}; {more}" if (more := enough(gate)) else found


def junit(view: View) -> bytes:
    """One test case for each gate, and for each score that got worse; a gate that does not ship is a failure with the items that were missed."""
    cases = [(gate.name, sentence(gate) if stops(gate) else "", view.missed(gate.metric)) for gate in view.gates]
    cases += [(f"{one.score} against {view.other}", _worse(one) if one.verdict == "worse" else "", list(one.lost)) for one in view.compared]
    suite = ET.Element("testsuite", name=f"interlock eval {view.suite}", tests=str(len(cases)), failures=str(sum(bool(why) for _, why, _ in cases)))
    for name, why, items in cases:
        case = ET.SubElement(suite, "testcase", classname=view.suite, name=plain(name))
        if why:
            failure = ET.SubElement(case, "failure", message=plain(why))
            failure.text = "\n".join(plain(item) for item in items[:SHOWN])
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'.encode("utf-8", "replace")


def comment(view: View) -> str:
    """Markdown for a pull request."""
    mark = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
    lines = [f"### {mark[view.verdict]} interlock eval {_md(view.suite)}: {view.verdict}", ""]
    if view.gates:
        lines += ["| gate | claim | measured | interval | items | verdict |", "|---|---|---|---|---|---|"]
        for gate in view.gates:
            measured, interval = ("–", "–") if gate.measured is None else (f"{gate.measured:.4g}", f"{gate.low:.4g} to {gate.high:.4g}")
            told = f"{gate.verdict}, waived: {_md(gate.waived)}" if gate.waived else gate.verdict
            lines.append(f"| {_md(gate.name)} | {gate.claim} {gate.threshold:g} | {measured} | {interval} | {gate.n} | {told} |")
        lines.append("")
    if view.compared:
        lines += [f"Against {_md(view.other)}:", "", "| score | before | now | change | adjusted p | verdict |", "|---|---|---|---|---|---|"]
        for one in view.compared:
            change = f"{one.change.low:+.3g} to {one.change.high:+.3g}"
            lines.append(f"| {_md(one.score)} | {one.before:.4g} | {one.now:.4g} | {change} | {one.adjusted:.2g} | {one.verdict} |")
        lines.append("")
    for gate in view.gates:
        items = view.missed(gate.metric)
        if stops(gate) and items:
            more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
            lines.append(f"* {_md(gate.name)} missed: {', '.join(_md(item) for item in items[:SHOWN])}{more}")
    return "\n".join(lines).rstrip() + "\n"


def _worse(one: Compared) -> str:
    return f"{one.before:.4g} before, {one.now:.4g} now, probability by chance {one.adjusted:.2g} after correction"


def _md(text: object) -> str:
    """A text from a file within a cell of a table: no markup of its own."""
    return "".join(f"\\{char}" if char in r"\`*_{}[]<>()#+!|~@" else char for char in plain(text).replace("\n", " "))
