"""Attention without work that changes nothing: key heads that are repeated for their queries, slots of a state that were never written, and slots
that the mask hides from a whole part of the queries.

Here: all three, with the proof that the result has the same bits. Not here: other rewrites (they change rounding: fast/).

1. `reshape(tile(expand_dims(k)))` repeats every key head for a group of query heads. The processor's kernel computes each head by itself, so that
   the same head can be read again instead.
2. A slot that was never written holds zeros. Its score is its mask, and where that is so far below the row's own sum that its weight underflows
   to exactly 0, the kernel adds 0 · 0: leaving out whole blocks of such slots changes no bit. The mask is looked at once per run, every row's sum
   (log-sum-exp) in every attention; where either fails, all slots are computed.
3. Long inputs are taken in parts of rows, and a part needs no block of slots that lie behind all that its mask shows: most of a causal mask. Such
   slots hold keys, so their scores are bounded by |q| · |k| (Cauchy and Schwarz); the rest of the proof is that of 2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil.inplace import names
from runtime.mil.ops.registry import Entry, Parameter
from runtime.mil.plan import BlockPlan, Source, Step

KIND = "grouped_attention"
# Slots that the processor's kernel takes at a time (aten/src/ATen/native/cpu/FlashAttentionKernel.cpp: kv_split_size).
BLOCK = 512
# Rows of a part: the kernel takes 256 rows at a time from 768 rows on, so that parts from there on, cut at multiples of 256, meet the same sums.
ROWS = 1024
# A mask below this may hide a slot. Only a first look: the bound above decides.
LOW = -1e3
# exp(-104) is 0 in fp32; the largest score of a row is at most log(slots) below its log-sum-exp.
UNDERFLOW = 128.0


@dataclass
class Extents:
    """What is known of states in a run. used: how many slots (second axis from the end) may hold anything but zeros, by state; missing where
    that is not known. hidden: masks that were looked at."""

    used: dict[str, int]
    hidden: dict[int, tuple[Tensor, int, float]] = field(default_factory=dict)

    def wrote(self, name: str, end: int) -> None:
        """Slots below `end` may have been written in place."""
        if name in self.used:
            self.used[name] = max(self.used[name], end)

    def cut(self, mask: Tensor, states: tuple[str, str], slots: int) -> tuple[int, float]:
        """(cut, hidden) for `attend`: what may be left out if its sums allow it."""
        used = max(self.used.get(state, slots) for state in states)
        cut = -(-used // BLOCK) * BLOCK
        if not 0 < cut < slots:
            return slots, 0.0
        known = self.hidden.get(id(mask))
        if known is None or known[1] != cut:
            known = self.hidden[id(mask)] = (mask, cut, float(mask[..., cut:].amax()))  # the tensor is kept: its id stays its own
        return cut, known[2]

    def replaced(self, name: str) -> None:
        """A state has other memory, of which nothing is known."""
        self.used.pop(name, None)


def grouped(plan: BlockPlan) -> BlockPlan:
    """The plan, with repeated key heads read where they are."""
    made = {output.name: step for step in plan.steps for output in step.outputs}
    uses = Counter(name for step in plan.steps for name in names(step))
    uses.update(plan.outputs)
    dropped: set[str] = set()
    result = []
    for step in plan.steps:
        key, value = (_repeated(step, name, made, uses) for name in ("key", "value"))
        if step.kind == "scaled_dot_product_attention" and key and value and _fits(step, key, value, made):
            dropped |= {*key.between, *value.between}
            sources = [_with(source, {"key": key.name, "value": value.name}) for source in step.sources]
            fixed = {"states": (_state_of(key.name, made), _state_of(value.name, made)), "group": key.group}
            result.append(replace(step, kind=KIND, entry=ENTRY, sources=tuple(sources), fixed=fixed))
        else:
            result.append(step)
    return replace(plan, steps=tuple(step for step in result if not any(output.name in dropped for output in step.outputs)))


def attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, group: int, cut: int, hidden: float) -> Tensor:
    """query: [1, H, T, D]; key, value: [1, H/group, S, D]; attn_mask: [1, 1, T, S], added. Only slots below `cut` are read, if that is proven
    to change nothing. hidden: the greatest mask of the others, whose keys and values are zero. → [1, H, T, D]."""
    _, heads, length, depth = query.shape
    if hidden == -math.inf and length == 1:
        # one position: the queries of a group are rows against their key head
        groups = query.view(1, heads // group, group, depth)
        return F.scaled_dot_product_attention(groups, key[:, :, :cut], value[:, :, :cut], attn_mask=attn_mask[..., :cut]).view(query.shape)
    starts = range(0, max(length - ROWS, 0) + 1, ROWS)
    ends = (*starts[1:], length)
    parts = [
        _attend_rows(query[:, :, start:end], key, value, attn_mask[:, :, start:end], group, cut, hidden)
        for start, end in zip(starts, ends, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _attend_rows(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, group: int, cut: int, hidden: float) -> Tensor:
    """`attend` for some of the queries: [1, H, t, D], their mask [1, 1, t, S]."""
    _, heads, length, depth = query.shape
    slots = key.shape[2]
    groups = query.view(heads // group, group, length, depth)
    shown = _shown(attn_mask, cut) if length >= ROWS else cut
    if shown < slots:
        shared = (heads // group, group, shown, depth)
        result, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            groups,
            key[0, :, None, :shown].expand(shared),
            value[0, :, None, :shown].expand(shared),
            attn_mask=attn_mask[..., :shown],
        )
        greatest = _bound(query, key[:, :, shown:cut], value[:, :, shown:cut], attn_mask[..., shown:cut]) if shown < cut else -math.inf
        greatest = max(greatest, hidden) if cut < slots else greatest
        if greatest == -math.inf or float(sums.min()) > greatest + UNDERFLOW:  # false for NaN
            attended: Tensor = result.reshape(query.shape)
            return attended
    shared = (heads // group, group, slots, depth)
    keys, values = (part[0, :, None].expand(shared) for part in (key, value))
    return F.scaled_dot_product_attention(groups, keys, values, attn_mask=attn_mask).reshape(query.shape)


def _shown(attn_mask: Tensor, cut: int) -> int:
    """The end of the last block, no later than `cut`, with a slot that the mask shows to any of its rows."""
    seen = (attn_mask[0, 0, :, :cut].amax(dim=0) > LOW).nonzero()
    return min(-(-(int(seen[-1]) + 1) // BLOCK) * BLOCK, cut) if len(seen) else cut


def _bound(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor) -> float:
    """No score of these slots is greater; infinite where a value is not finite, because 0 times that is not 0."""
    if not math.isfinite(float(value.sum())):
        return math.inf
    norms = [float(part.norm(dim=-1).amax()) for part in (query, key)]
    return norms[0] * norms[1] / math.sqrt(query.shape[-1]) + float(attn_mask.amax())


@dataclass(frozen=True)
class _Repeated:
    """Heads that are repeated: [1, heads, slots, depth] of `name`, each `group` times. between: the values that the repetition makes."""

    name: str
    group: int
    shape: tuple[int | None, ...]
    between: tuple[str, ...]


def _repeated(step: Step, parameter: str, made: Mapping[str, Step], uses: Counter[str]) -> _Repeated | None:
    """One operand of an attention, if nothing else uses its repetition."""
    name, chain = _named(step, parameter), list[Step]()
    for kind in ("reshape", "tile", "expand_dims"):
        found = made.get(name)
        if found is None or found.kind != kind or uses[name] != 1:
            return None
        chain.append(found)
        name = _named(found, "x")
    shaped, tiled, expanded = chain
    repeats, base = tiled.fixed.get("reps"), expanded.outputs[0].type.shape
    if repeats is None or base is None or len(base) != 5 or base[0] != 1 or None in base or expanded.fixed.get("axes") != (2,):
        return None
    if repeats != (1, 1, repeats[2], 1, 1) or shaped.outputs[0].type.shape != (1, (base[1] or 0) * repeats[2], *base[3:]):
        return None
    return _Repeated(name, repeats[2], (1, base[1], *base[3:]), tuple(step.outputs[0].name for step in chain))


def _fits(step: Step, key: _Repeated, value: _Repeated, made: Mapping[str, Step]) -> bool:
    """Whether one query batch meets equal shapes, and the mask is added, fp32 and one for all heads."""
    mask, made_mask = _named(step, "attn_mask"), made.get(_named(step, "attn_mask"))
    output = next((output for output in made_mask.outputs if output.name == mask), None) if made_mask else None
    result = step.outputs[0].type.shape
    if output is None or output.carrier is not torch.float32 or result is None or key.shape != value.shape or key.group != value.group:
        return False
    heads, (_, key_heads, slots, depth) = result[1] if len(result) == 4 else None, key.shape
    return result[0] == 1 and heads == (key_heads or 0) * key.group and result[-1] == depth and output.type.shape == (1, 1, result[2], slots)


def _state_of(name: str, made: Mapping[str, Step]) -> str:
    """The state whose slots a value's slots are: read and cut along its first axes only; empty if it is anything else."""
    step = made.get(name)
    if step is not None and step.kind == "slice_by_index" and not any(source.parameter != "x" for source in step.sources):
        given, own = _shape(_named(step, "x"), made), step.outputs[0].type.shape
        strides = step.fixed.get("stride", (1,))
        if given is None or own is None or len(given) != len(own) or given[-2:] != own[-2:] or any(size != 1 for size in strides):
            return ""
        step = made.get(_named(step, "x"))
    return step.state if step is not None and step.kind == "read_state" else ""


def _shape(name: str, made: Mapping[str, Step]) -> Any:
    return next((output.type.shape for output in made[name].outputs if output.name == name), None) if name in made else None


def _named(step: Step, parameter: str) -> str:
    return next((source.value for source in step.sources if source.parameter == parameter and isinstance(source.value, str)), "")


def _with(source: Source, values: Mapping[str, str]) -> Source:
    return replace(source, value=values[source.parameter]) if source.parameter in values else source


ENTRY = Entry(KIND, attend, {name: Parameter(name, "Tensor", True) for name in ("query", "key", "value", "attn_mask")}, "", False, {})
