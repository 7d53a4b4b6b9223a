"""Backend `eager` says what Student says for the relatives of Llama too, across windows, chunks and rewinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes.relatives import ALL, RELATIVES, relative_student
from fakes.students import some_ids
from fakes.units import prompt_db
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.eager import CHUNK, eager_from
from runtime.backends.protocol import Step
from runtime.numerics import psnr_db
from runtime.student.model import Student


def close(step: Step, student: Student, ids: list[int]) -> None:
    least_db = prompt_db(105)
    out = student(torch.tensor([ids]))
    assert psnr_db(out.logits[0, -1], torch.from_numpy(step.logits)) >= least_db
    assert psnr_db(out.hidden[0, -1], torch.from_numpy(step.hidden)) >= least_db


@pytest.mark.parametrize("fields", [*RELATIVES.values(), ALL], ids=[*RELATIVES, "all"])
def test_prompt_and_steps_equal_the_student(fields: dict[str, Any]) -> None:
    student = relative_student(**fields)
    backend = eager_from(student)
    cache = backend.new_cache()
    ids = some_ids(student.arch, 60).tolist()
    close(backend.prefill(ids[:20], cache), student, ids[:20])
    close(backend.prefill(ids[20:40], cache), student, ids[:40])
    for count in range(41, 61):
        close(backend.decode(ids[count - 1], cache), student, ids[:count])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 20), st.integers(1, 12))
def test_any_division_any_rewind_and_any_window_is_the_same_sequence(counts: list[int], keep: int, window: int) -> None:
    student = relative_student(n_layers=2, **{**ALL, "sliding_window": window, "no_rope_layers": (1,)})
    backend = eager_from(student)
    cache = backend.new_cache()
    cache.slots.fill(np.nan)
    detour = some_ids(student.arch, 25, seed=1).tolist()
    ids = detour[:keep] + some_ids(student.arch, sum(counts), seed=2).tolist()
    backend.prefill(detour, cache)
    cache.rewind(keep)
    for count in counts:
        step = backend.prefill(ids[cache.position : cache.position + count], cache)
    close(step, student, ids)


@pytest.mark.parametrize("window", [CHUNK - 100, CHUNK + 100])
def test_a_window_reaches_from_one_chunk_of_a_prompt_into_the_one_before(window: int) -> None:
    student = relative_student(n_layers=2, sliding_window=window, max_position=CHUNK + 200)
    backend = eager_from(student)
    ids = some_ids(student.arch, CHUNK + 150).tolist()
    close(backend.prefill(ids, backend.new_cache()), student, ids)
