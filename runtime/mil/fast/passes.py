"""The rewrites of the fast executor, in order. Not here: each of them, and what is exact (runtime/mil/attention.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from runtime.mil.attention import Extents, grouped
from runtime.mil.fast import linears, norm, rope
from runtime.mil.fast.rewrite import renamed, rewritten
from runtime.mil.lower import Lower
from runtime.mil.plan import BlockPlan
from runtime.mil.views import without_dead

LOWER: Mapping[str, Lower] = {norm.KIND: norm.lower, rope.KIND: rope.lower, rope.TABLE: rope.lower_table, linears.KIND: linears.narrow}
# A slot whose mask is lower than this in every row is left out: additive masks are -1e4 or minus infinity.
HIDDEN = -1e3


def fast(plan: BlockPlan) -> BlockPlan:
    """The plan in fewer steps. A function with control flow stays as it is."""
    if any(step.blocks for step in plan.steps):
        return plan
    for match in (norm.match, rope.match):
        plan = rewritten(without_casts(plan), match)
    return grouped(linears.merged(rope.with_tables(plan)))


def without_casts(plan: BlockPlan) -> BlockPlan:
    """Casts between floats that are held in fp32 change nothing here."""
    held = {output.name: output.carrier for step in plan.steps for output in step.outputs}
    same: dict[str, str] = {}
    for step in plan.steps:
        x = step.sources[0].value if step.kind == "cast" and step.sources else None
        if isinstance(x, str) and x in held and held[x].is_floating_point and held[x] == step.outputs[0].carrier:
            same[step.outputs[0].name] = same.get(x, x)
    return without_dead(renamed(plan, same))


@dataclass
class Visible(Extents):
    """Slots are left out by their mask alone."""

    def cut(self, mask: Tensor, states: tuple[str, str], slots: int) -> tuple[int, float]:
        """(how many slots to read, minus infinity: there is nothing to prove)."""
        known = self.hidden.get(id(mask))
        if known is None:
            seen = (mask > HIDDEN).any(dim=2).reshape(-1).nonzero()
            known = self.hidden[id(mask)] = (mask, int(seen[-1]) + 1 if len(seen) else slots, -float("inf"))
        return known[1], known[2]
