"""`mil lint`: what in a package is known to fail, to be wrong or to be slow on a device.

Here: the document, its lines and the exit code. Not here: the rules (runtime/mil/lint).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.mil import Program


def linted(args: argparse.Namespace, package: Program) -> dict[str, Any]:
    """exit_code: 2 with a fatal finding, 1 with one that is silent or costs speed, 0 else."""
    from runtime.mil.lint import lint

    findings = lint(package, args.target)
    severities = {item.severity for item in findings}
    code = 2 if "fatal" in severities else 1 if severities & {"silent", "perf"} else 0
    return {"package": str(package.path), "target": args.target, "findings": [asdict(item) for item in findings], "exit_code": code}


def lines_of(document: dict[str, Any]) -> list[str]:
    """Functions that break one rule share its lines."""
    rules: dict[str, list[dict[str, Any]]] = {}
    for item in document["findings"]:
        rules.setdefault(item["rule"], []).append(item)
    lines = [f"{document['package']} for {document['target']}: {len(rules)} rules broken"]
    for rule, items in rules.items():
        first = items[0]
        more = f" and {first['count'] - 1} more" if first["count"] > 1 else ""
        lines.append(f"{first['severity']:<6} {rule}: {first['operation']} `{first['value']}`{more}: {first['found']}")
        lines.append(f"       in {', '.join(item['function'] for item in items)}")
        lines.append(f"       fix: {first['fix']} ({first['confidence']}; {first['source']})")
    return [*lines, "a package without findings is not proved to run: these are rules that others found out on devices"]
