"""Which dialogues are ones for code, by the deployment guide's rule: a program calls their tools, and what it prints alone enters the context.

Here: the rule. Not here: learning it from pairs (pipeline/training/code_mode.py), running programs (eval/asking/code.py).
"""

from __future__ import annotations

from pipeline.datasets.rows import Row

MANY_TOOLS, LONG_RESULT = 2, 10_000  # calls; characters


def prefers_code(tools: int, longest_result: int, personal: bool) -> bool:
    """Whether a dialogue is one for code: many tools, a result of so many characters, or personal data that must not enter the context."""
    return tools >= MANY_TOOLS or longest_result >= LONG_RESULT or personal


def eligible(row: Row) -> bool:
    """Whether a dialogue is one for code by the guide's rule: `metadata.eligible_for_code_mode` where it says so; else by its calls (those of the
    rejected answer, or of `metadata.call_sequence`, included), its results (or `metadata.intermediate_sizes`) and `metadata.pii_tags_present`."""
    said = row.metadata.get("eligible_for_code_mode")
    if isinstance(said, bool):
        return said
    messages = [*(row.messages or ()), *([row.rejected] if row.rejected else [])]
    calls, sequence, sizes = sum(len(one.calls or ()) for one in messages), row.metadata.get("call_sequence"), row.metadata.get("intermediate_sizes")
    results = [len(one.content) for one in messages if one.role == "tool"]
    results += [int(size) for size in sizes if isinstance(size, int)] if isinstance(sizes, list) else []
    tools = max(calls, len(sequence) if isinstance(sequence, list) else 0)
    return prefers_code(tools, max(results, default=0), personal=bool(row.metadata.get("pii_tags_present")))
