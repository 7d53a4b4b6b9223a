"""Runs of a package with state: every length at many positions, every way in which a host fills and reads the cache.

Here: which calls are made and what each is compared with. Not here: figures (evidence.py), thresholds (package.py), range (headroom.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interlock.contracts.package import LATENT, Evidence, PackageFacts
from interlock.voice import Task
from pipeline.gates.evidence import Outputs, Pool, rows, stacked
from pipeline.gates.headroom import Watch
from pipeline.gates.latent import measure_latent
from pipeline.gates.reference import Reference
from runtime.mil import Runner, State
from runtime.student.model import Student

# Rows that are read of the shortest length, and of every other (the first and the last among them).
MANY, SOME = 512, 32
# Decode steps with the true next token: after the shortest prefill, after every other one, after a padded one, and from nothing.
STEPS, FEW, AFTER_PADDING, FROM_NOTHING = 128, 8, 16, 16
# Rows whose logits are in memory at a time.
BATCH = 64

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class Session:
    """One package under the gate. limit: positions that both the cache and the model have; found: evidence so far."""

    runner: Runner
    student: Student
    lengths: tuple[int, ...]
    limit: int
    allowed_db: float
    watch: Watch
    task: Task
    found: list[Evidence] = field(default_factory=list)

    @staticmethod
    def of(runner: Runner, facts: PackageFacts, student: Student, allowed_db: float, watch: Watch, task: Task) -> Session:
        lengths = sorted(int(name.removeprefix("prefill_")) for name in facts.functions if name.startswith("prefill_"))
        slots = next(state.shape[2] for state in facts.functions["decode"].states if state.name == "k_cache")
        return Session(runner, student, tuple(lengths), min(slots, student.arch.max_position), allowed_db, watch, task)

    def pool(self, function: str, case: str = "", against: str | None = None) -> Pool:
        tokens = int(function.removeprefix("prefill_")) if function.startswith("prefill_") else 1
        return Pool(function, tokens, self.allowed_db, case, against)

    def keep(self, pool: Pool) -> None:
        self.found += pool.evidence()

    def reference(self, prompt: Sequence[int], length: int) -> Reference:
        self.task.note(f"reference, {length} tokens")
        return Reference.of(self.student, prompt, min(length, self.limit))

    def prefill(self, ids: Sequence[int], length: int, start: int, state: State, read: Sequence[int]) -> Iterator[Outputs]:
        """Fill slots start … start + length with ids (padded with 0 where fewer) and yield the outputs at each of `read`, batched in order."""
        self.task.note(f"prefill_{length} at {start}")
        inputs = prefill_inputs(ids, length, start)
        batch = []
        for step in self.runner.sweep(f"prefill_{length}", inputs, "last_index", [np.array([place], np.int32) for place in read], state):
            batch.append(rows(step))
            if len(batch) == BATCH:
                yield stacked(batch)
                batch.clear()
                self.task.note(f"prefill_{length} at {start}, reading rows")
        if batch:
            yield stacked(batch)

    def decode(self, ids: Sequence[int] | Mapping[int, int], start: int, count: int, state: State, observe: Watch | None = None) -> Outputs | None:
        """`count` steps of decode with the tokens of the text from position `start` on; None if the cache has no room for any."""
        steps = []
        for position in range(start, min(start + count, self.limit)):
            if position % 16 == 0:
                self.task.note(f"decode, position {position}")
            steps.append(rows(self.runner.run("decode", decode_inputs(ids[position], position), state, observe)))
        return stacked(steps) if steps else None


def measure_stateful(
    runner: Runner, facts: PackageFacts, student: Student, prompt: Sequence[int], allowed_db: float, watch: Watch, task: Task, latent_slots: int
) -> tuple[list[Evidence], bool]:
    """Evidence for every output of every function, and whether repeated calls gave the same bits. latent_slots: of the longest trained span."""
    session = Session.of(runner, facts, student, allowed_db, watch, task)
    text = session.reference(prompt, max(session.lengths[0] + STEPS, session.lengths[-1] + FEW))
    decode = session.pool("decode")
    for length in reversed(session.lengths[1:]):
        _longer(session, text, length, decode)
    repeatable = _shortest(session, text, decode)
    repeatable = _other_text(session, prompt, decode) and repeatable
    session.keep(decode)
    if LATENT in facts.functions:
        repeatable = measure_latent(session, text, latent_slots) and repeatable
    order = {name: place for place, name in enumerate([*(f"prefill_{length}" for length in session.lengths), "decode", LATENT])}
    return sorted(session.found, key=lambda item: (order[item.function], item.case, item.against or "")), repeatable


def _longer(session: Session, text: Reference, length: int, decode: Pool) -> None:
    """One of the longer lengths at some rows, decode on its cache, and the same cache filled in shorter pieces."""
    name, read = f"prefill_{length}", spread(length, SOME)
    state, pool = session.runner.new_state(name), session.pool(f"prefill_{length}")
    said = stacked_all(session.prefill(text.ids[:length], length, 0, state, read))
    pool.add(text.outputs(read), said)
    session.keep(pool)
    shortest = session.lengths[0]
    if length == 2 * shortest:
        _in_pieces(session, text, shortest, state, dict(zip(read, range(len(read)), strict=True)), said)
    _add_steps(session, text, length, FEW, state, decode)


def _in_pieces(session: Session, text: Reference, piece: int, whole: State, known: dict[int, int], said: Outputs) -> None:
    """Two calls of `prefill_<piece>` against one of twice its length, and against the student: what a host does with a long prompt."""
    name, long = f"prefill_{piece}", f"prefill_{2 * piece}"
    state = session.runner.new_state(name)
    for _ in session.prefill(text.ids[:piece], piece, 0, state, [piece - 1]):
        pass
    read = [place for place in known if place >= piece]
    found = stacked_all(session.prefill(text.ids[piece : 2 * piece], piece, piece, state, [place - piece for place in read]))
    resumed, same = session.pool(name, f"resumed at {piece}"), session.pool(name, f"resumed at {piece}", long)
    resumed.add(text.outputs(read), found)
    same.add({output: values[[known[place] for place in read]] for output, values in said.items()}, found)
    same.add(slots_of(whole, 2 * piece), slots_of(state, 2 * piece))
    session.keep(resumed)
    session.keep(same)


def _shortest(session: Session, text: Reference, decode: Pool) -> bool:
    """The shortest length at all rows (512 of them), a long chain of decode, and the same positions through decode alone."""
    length = session.lengths[0]
    name, read = f"prefill_{length}", spread(length, MANY)
    pool, state = session.pool(name), session.runner.new_state(name)
    first, last, place = list[Outputs](), dict[str, Tensor](), 0
    for found in session.prefill(text.ids[:length], length, 0, state, read):
        count = len(found["logits"])
        pool.add(text.outputs(read[place : place + count]), found)
        first, last, place = first or [found], {output: values[-1:] for output, values in found.items()}, place + count
    session.keep(pool)
    session.task.note(f"{name} again, watched")
    again = rows(session.runner.run(name, prefill_inputs(text.ids[:length], length, 0), session.runner.new_state(name), session.watch))
    repeatable = equal(last, again)
    _add_steps(session, text, length, STEPS, state, decode)
    _from_nothing(session, text, [index for index in read[: len(first[0]["logits"])] if index < FROM_NOTHING], first[0])
    return repeatable


def _from_nothing(session: Session, text: Reference, shared: Sequence[int], said: Outputs) -> None:
    """The first positions through decode alone: against the student, and against the rows that the shortest prefill gave there."""
    state = session.runner.new_state("decode")
    found = session.decode(text.ids, 0, FROM_NOTHING, state, session.watch)
    assert found is not None
    alone = session.pool("decode", "empty cache")
    alone.add(text.outputs(slice(0, len(found["logits"]))), found)
    session.keep(alone)
    same = session.pool("decode", "empty cache", f"prefill_{session.lengths[0]}")
    same.add({output: values[: len(shared)] for output, values in said.items()}, {output: values[list(shared)] for output, values in found.items()})
    session.keep(same)


def _other_text(session: Session, prompt: Sequence[int], decode: Pool) -> bool:
    """Another text, shorter than the length: what stands in the padding must not show, nor what it left in the cache."""
    length = session.lengths[0]
    name, real = f"prefill_{length}", -(-3 * length // 5)
    half = len(prompt) // 2
    text = session.reference([*prompt[half:], *prompt[:half]], real + AFTER_PADDING)
    read = spread(real, SOME)
    state = session.runner.new_state(name)
    padded, same = session.pool(name, f"padded from {real}"), session.pool(name, "other padding", name)
    found = stacked_all(session.prefill(text.ids[:real], length, 0, state, read))
    padded.add(text.outputs(read), found)
    session.keep(padded)
    session.task.note(f"{name}, other padding")
    garbage = (*text.ids[:real], *reversed(text.ids[: length - real]))
    other = prefill_inputs(garbage, length, 0) | {"last_index": np.array([real - 1], np.int32)}
    again = rows(session.runner.run(name, other, session.runner.new_state(name), session.watch))
    same.add({output: values[-1:] for output, values in found.items()}, again)
    session.keep(same)
    _add_steps(session, text, real, AFTER_PADDING, state, decode)
    # The last slot is written a second time with what stands there.
    place = min(real + AFTER_PADDING, session.limit) - 1
    twice = [rows(session.runner.run("decode", decode_inputs(text.ids[place], place), state)) for _ in range(2)]
    return equal(*twice)


def _add_steps(session: Session, text: Reference, start: int, count: int, state: State, decode: Pool) -> None:
    found = session.decode(text.ids, start, count, state)
    if found is not None:
        decode.add(text.outputs(slice(start, start + len(found["logits"]))), found)


def spread(length: int, count: int) -> list[int]:
    """`count` of `length` positions at equal distances, the first and the last among them; all of them if there are no more."""
    return sorted({round(place) for place in np.linspace(0, length - 1, min(count, length))})


def prefill_inputs(ids: Sequence[int], length: int, start: int) -> Arrays:
    padded = np.zeros((1, length), np.int32)
    padded[0, : len(ids)] = ids
    positions = np.arange(start, start + length, dtype=np.int32)
    return {"input_ids": padded, "position_ids": positions, "last_index": np.array([len(ids) - 1], np.int32)}


def decode_inputs(token: int, position: int) -> Arrays:
    return {"input_ids": np.array([[token]], np.int32), "position_ids": np.array([position], np.int32)}


def slots_of(state: State, count: int) -> dict[str, Tensor]:
    """The first `count` slots of every cache, as one row for each layer and head: [L · H_kv, count · D] fp32."""
    return {name: tensor[:, :, :count].float().flatten(0, 1).flatten(1) for name, tensor in state.tensors.items()}


def stacked_all(batches: Iterator[Outputs]) -> dict[str, Tensor]:
    return stacked([dict(batch) for batch in batches])


def equal(one: Outputs, other: Outputs) -> bool:
    """Bit for bit, NaN included."""
    return all(torch.equal(one[name].view(torch.int32), other[name].view(torch.int32)) for name in one)
