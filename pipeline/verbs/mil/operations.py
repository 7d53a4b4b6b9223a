"""`mil ops`: which operations the runner has, and the test that proves each.

Here: the document and its lines. Not here: the table (runtime/mil/ops/registry.py).
"""

from __future__ import annotations

from typing import Any


def done() -> dict[str, Any]:
    from runtime.mil.ops.registry import CONSTANT_OPERATIONS, NOT_DONE, OPERATIONS
    from runtime.mil.plan import STRUCTURE

    proofs = {name: entry.proof for table in (OPERATIONS, CONSTANT_OPERATIONS) for name, entry in table.items()} | STRUCTURE
    return {"done": dict(sorted(proofs.items())), "not_done": NOT_DONE}


def lines_of(document: dict[str, Any]) -> list[str]:
    lines = [f"{name:<34} tests/runtime/mil/{proof}" for name, proof in document["done"].items()]
    lines += [f"{name:<34} not done: {reason}" for name, reason in document["not_done"].items()]
    return [*lines, f"{len(document['done'])} done, {len(document['not_done'])} not"]
