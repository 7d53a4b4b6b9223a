"""Rules of devices that can be checked without one.

    findings = lint(open_package(path), "ane")

Here: running the table of rules. Not here: the rules (graph.py, interface.py and storage.py check them, table.py says what they mean), exit codes.
"""

from __future__ import annotations

from collections.abc import Iterator

from runtime.mil.lint.facts import Hit
from runtime.mil.lint.table import RULES, Finding, Rule, Target
from runtime.mil.program import Program

__all__ = ["RULES", "Finding", "Rule", "Target", "lint"]
_ORDER = ("fatal", "silent", "perf", "note")


def lint(program: Program, target: Target = "any") -> tuple[Finding, ...]:
    """Every rule that speaks of the target, worst first; hits of one rule in one function are one finding with their number."""
    found = [item for rule in RULES if target == "any" or target in rule.targets for item in _findings(rule, program)]
    return tuple(sorted(found, key=lambda item: _ORDER.index(item.severity)))


def _findings(rule: Rule, program: Program) -> Iterator[Finding]:
    for function in program.functions.values():
        hits: list[Hit] = list(rule.check(program, function))
        if hits:
            first = hits[0]
            yield Finding(
                rule.id, rule.severity, rule.confidence, function.name, first.operation, first.value, first.found, len(hits), rule.source, rule.fix
            )
