"""Every value that the eager student computes, in order, with where in its source each comes from.

Here: running the student on the calls of a comparison and watching. Not here: what the values are compared with (match.py).
The student is watched below its own code, at torch's operators, so that what is seen is what runs: nothing is written down twice. Attention is one
operator there and several in some packages, so its parts are added by its formula.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from runtime.mil.compare.chain import EMBEDS, IDS, LAST, POSITIONS, Call, reach
from runtime.mil.compare.sketch import Sketch, sketched, squeezed
from runtime.student.model import Student

# Operators that return an input in another shape: the package need not do them, and doing them cannot be wrong alone.
MOVES = frozenset({
    "view", "_unsafe_view", "reshape", "transpose", "permute", "unsqueeze", "squeeze", "expand", "slice", "select", "clone", "alias", "detach", "t",
    "_to_copy", "lift_fresh", "as_strided", "contiguous", "unbind", "split",
})  # fmt: skip
CACHES = ("k_cache", "v_cache")
UNSCALED = "scores"
_HERE = "runtime/student/"
_NOTHING = sketched(torch.empty(0))
Wanted = Collection[tuple[int, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Tap:
    """One value. label: module, function and source text; operator: torch's name; parents: taps it was computed from; takes: names of weights;
    output: what a package calls it if it is one, else empty."""

    call: int
    label: str
    operator: str
    parents: tuple[int, ...]
    takes: tuple[str, ...]
    floats: bool
    sketch: Sketch
    output: str = ""

    @property
    def moves(self) -> bool:
        return self.operator in MOVES


def watch(student: Student, calls: Sequence[Call], slots: int | None, wanted: Wanted, note: Callable[[str], None]) -> list[Tap]:
    """Every value of the student over the calls. slots: of the cache that calls share, None: the functions keep no state. wanted: by call, the
    shapes that anything may be compared with; a value of another shape has no call and no numbers."""
    arch = student.arch
    shape = (arch.n_layers, arch.n_kv_heads, slots or 1, arch.d_head)
    caches: list[Tensor] = []
    taps: list[Tap] = []
    weights = {id(tensor): name for name, tensor in (*student.named_parameters(), *student.named_buffers())}
    with torch.no_grad():
        for index, call in enumerate(calls):
            note(f"student: {call.label}")
            if call.fresh or not caches:
                caches = [torch.zeros(shape), torch.zeros(shape)]
            given = {name: torch.from_numpy(array) for name, array in call.inputs.items()}
            seen = _Watch(index, taps, weights, caches, reach(calls), wanted)
            # before watching: what watches must not be watched
            for name, value in (*given.items(), *zip(CACHES, caches, strict=True)):
                seen.add(value, f"{name} as given", name, (), ())
            with seen:
                outputs = _run(student, given, caches if slots else None)
            for name, value in outputs.items():
                seen.says(name, value)
    return taps


def _run(student: Student, given: dict[str, Tensor], caches: list[Tensor] | None) -> dict[str, Tensor]:
    """One call of a form of the student (pipeline/export/forms.py): with a cache the heads read one position, without it all. Returns its outputs."""
    x = given[EMBEDS].float() if EMBEDS in given else given[IDS]
    if caches is None:
        hidden = student.hidden(x)
    else:
        hidden = student.extend(x, given[POSITIONS], *caches)
        if LAST in given:
            hidden = torch.index_select(hidden, 1, given[LAST])
    outputs = {"hidden": hidden, "logits": student.logits(hidden)}
    if student.heads.use_halt_head:
        outputs["halt_logits"] = student.halt(hidden[:, -1])
    return outputs


@dataclass
class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own class
    call: int
    taps: list[Tap]
    weights: dict[int, str]
    caches: list[Tensor]
    slots: int | None
    wanted: Wanted
    made: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operator = func.overloadpacket.__name__
        given = [item for item in _flat((*args, *(kwargs or {}).values())) if isinstance(item, Tensor)]
        parents = tuple(self.made[id(item)] for item in given if id(item) in self.made)
        takes = tuple(self.weights[id(item)] for item in given if id(item) in self.weights)
        label = _label(sys._getframe(1), takes) or operator
        if operator.startswith("_scaled_dot_product"):
            self._attention(label, parents, given)
        for item in _flat(result if isinstance(result, (tuple, list)) else (result,)):
            if isinstance(item, Tensor) and item.dtype != torch.float64 and item.numel():
                self.add(item, label, operator.rstrip("_"), parents, takes)
                if operator.startswith("_scaled_dot_product"):
                    break
        if operator == "copy_":
            for cache, name in zip(self.caches, CACHES, strict=True):
                if cache.untyped_storage().data_ptr() == given[0].untyped_storage().data_ptr():
                    self._forget(parents[0])
                    self.add(cache, f"{label} (whole {name})", name, parents, takes)
        return result

    def add(self, value: Tensor, label: str, operator: str, parents: tuple[int, ...], takes: tuple[str, ...]) -> None:
        self.made[id(value)] = len(self.taps)
        kept = value[:, :, : self.slots] if value.shape == self.caches[0].shape else value
        call, sketch = (self.call, sketched(kept)) if self._is_wanted(kept) else (-1, _NOTHING)
        self.taps.append(Tap(call, label, operator, parents, takes, value.is_floating_point(), sketch))

    def says(self, name: str, value: Tensor) -> None:
        at = self.made[id(value)]
        self.taps[at] = replace(self.taps[at], output=name)

    def _is_wanted(self, value: Tensor) -> bool:
        return (self.call, squeezed(value)) in self.wanted

    def _forget(self, at: int) -> None:
        """Views that were made to be written to are no values of the model."""
        while self.taps[at].moves:
            self.taps[at] = replace(self.taps[at], call=-1)
            at = self.taps[at].parents[0]

    def _attention(self, label: str, parents: tuple[int, ...], given: list[Tensor]) -> None:
        """The parts of softmax(q kᵀ / √D + mask) v, as packages for older systems have them."""
        query, key, _, mask = given[:4]
        scale = query.shape[-1] ** -0.5
        # UNSCALED follows it at once
        self.add(query * scale, f"{label}: q / √D", "attention", parents, ())
        if (self.call, tuple(size for size in (*query.shape[:-1], key.shape[-2]) if size != 1)) not in self.wanted:
            return
        plain = query @ key.transpose(-1, -2)
        self.add(plain, f"{label}: q kᵀ", UNSCALED, parents, ())
        hidden = plain * scale + mask
        for part, text in ((plain * scale, "q kᵀ / √D"), (hidden, "q kᵀ / √D + mask"), (hidden.softmax(-1), "softmax")):
            self.add(part, f"{label}: {text}", "attention", parents, ())


def _flat(items: Any) -> list[Any]:
    found: list[Any] = []
    for item in items:
        found += _flat(item) if isinstance(item, (tuple, list)) else [item]
    return found


def _label(frame: FrameType | None, takes: tuple[str, ...]) -> str:
    """The innermost line of the student's own source, with the block that runs and the weights that it takes."""
    text, block = "", ""
    while frame is not None:
        if _HERE in frame.f_code.co_filename.replace("\\", "/"):
            if not text:
                line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
                text = f"{frame.f_code.co_name}: {line}"
            if "block" in frame.f_locals and "i" in frame.f_locals:
                block = f"blocks.{frame.f_locals['i']} "
        frame = frame.f_back
    return f"{block}{text}"[:160] + (f" [{', '.join(takes)}]" if takes else "")
