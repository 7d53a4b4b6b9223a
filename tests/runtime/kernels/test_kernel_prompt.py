"""Prompts on matrix units are the reference student's, in any pieces, with any threads, bit for bit. Skipped where the processor has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from fakes.relatives import ALL, RELATIVES, relative_student
from fakes.students import some_ids, tiny_student
from fakes.units import PROMPT_DB
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.eager import EagerBackend, EagerCache, eager_from
from runtime.backends.held import Weights
from runtime.kernels import library
from runtime.kernels import threads as counted
from runtime.kernels.decoder import Decoder, Sequence
from runtime.kernels.products import Kernels
from runtime.numerics import psnr_db


@pytest.fixture(scope="module", autouse=True)
def units(runnable: dict[str, Kernels]) -> Iterator[None]:
    """The variant that has them is the process's."""
    found = [kernels for kernels in runnable.values() if kernels.prompt_function]
    if not found:
        pytest.skip("this processor has no matrix units")
    threads = counted.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "_loaded", [(found[0], found[0].variant)])
        yield
    counted.use(threads)


def read(backend: EagerBackend, ids: list[int], pieces: list[int]) -> tuple[torch.Tensor, EagerCache]:
    """The last logits [V] of a prompt in pieces of these sizes, the rest in one."""
    cache = backend.new_cache()
    cache.slots.fill(np.nan)  # what lies beyond the position must not matter
    for size in [*pieces, len(ids) - sum(pieces)]:
        step = backend.prefill(ids[cache.position : cache.position + size], cache)
    return torch.from_numpy(step.logits), cache


@pytest.mark.parametrize("fields", [{}, *RELATIVES.values(), ALL], ids=["llama", *RELATIVES, "all"])
def test_prompts_are_the_students(fields: dict[str, Any]) -> None:
    """More positions than one square has, and widths that no brick divides: 48, 80, heads of 12 and 16."""
    student = relative_student(**fields) if fields else tiny_student()
    ids = some_ids(student.arch, 75).tolist()
    said, _ = read(eager_from(student), ids, [])
    assert psnr_db(student(torch.tensor([ids])).logits[0, -1], said) >= PROMPT_DB


@pytest.mark.parametrize("d_head", [2, 18, 64, 80])
def test_heads_of_any_size(d_head: int) -> None:
    student = tiny_student(n_layers=2, d_head=d_head, d_model=50, d_ff=37)
    ids = some_ids(student.arch, 40).tolist()
    said, _ = read(eager_from(student), ids, [])
    assert psnr_db(student(torch.tensor([ids])).logits[0, -1], said) >= PROMPT_DB


@settings(max_examples=20, deadline=None)
@given(
    pieces=st.lists(st.integers(2, 90), max_size=4), weights=st.sampled_from(["fp32", "bf16", "int8"]), threads=st.integers(1, 3),
    window=st.sampled_from([None, 1, 20, 33, 100]),
)  # fmt: skip
def test_pieces_and_threads_change_no_bit(pieces: list[int], weights: Weights, threads: int, window: int | None) -> None:
    student = relative_student(n_layers=2, sliding_window=window)
    backend = eager_from(student, weights)
    ids = some_ids(student.arch, sum(pieces) + 35).tolist()
    counted.use(1)
    whole, cache = read(backend, ids, [])
    counted.use(threads)
    again, other = read(backend, ids, pieces)
    assert torch.equal(whole, again)
    assert np.array_equal(cache.slots[:, :, :, : len(ids)], other.slots[:, :, :, : len(ids)])


def test_wide_products_go_in_turns_and_change_no_bit() -> None:
    """512 positions of 1300 features are more than stays in the cache at a time; 40 are not."""
    student = tiny_student(n_layers=1, d_ff=1300, max_position=600)
    backend = eager_from(student)
    ids = some_ids(student.arch, 512).tolist()
    (whole, cache), (again, other) = read(backend, ids, []), read(backend, ids, [40] * 12)
    assert torch.equal(whole, again) and np.array_equal(cache.slots[:, :, :, :512], other.slots[:, :, :, :512])


def decoder_of(backend: EagerBackend) -> Decoder:
    assert isinstance(backend._steps, Decoder)
    return backend._steps


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(value: float) -> None:
    backend = eager_from(tiny_student())
    cache, x = backend.new_cache(), np.ones((40, backend.arch.d_model), np.float32)
    x[20, 3] = value
    logits, _, hidden = decoder_of(backend).prompt(x, Sequence(cache.slots, 0, 40))
    assert not np.isfinite(logits).any() and not np.isfinite(hidden).any() and not np.isfinite(cache.slots[1:, :, :, 20:40]).any()
    _, old = read(backend, some_ids(backend.arch, 40).tolist(), [])
    old.slots[0, 0, 0, 5, 0] = value
    assert not np.isfinite(backend.prefill([1, 2, 3], old).logits).any()


def test_wrong_memory_never_reaches_c() -> None:
    backend = eager_from(tiny_student())
    cache, x = backend.new_cache(), np.zeros((3, 48), np.float32)
    wrong: list[Any] = [(x[:2], cache.slots, 0), (x.astype(np.float64), cache.slots, 0), (x, cache.slots[:2], 0), (x, cache.slots, 254)]
    for inputs, slots, position in [*wrong, (x, cache.slots, -1)]:
        with pytest.raises(ValueError, match=r"fp32|a cache of"):
            decoder_of(backend).prompt(inputs, Sequence(slots, position, 3))
