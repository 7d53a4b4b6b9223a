"""The step in C, in every variant that this processor runs, is the reference student's, and one row of it is what it is alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes.relatives import ALL, RELATIVES, relative_student
from fakes.students import BOTH_HEADS, some_ids, tiny_student

from runtime.backends.eager import EagerBackend, eager_from
from runtime.backends.held import Held
from runtime.backends.tensors import as_array
from runtime.kernels import library
from runtime.kernels import threads as counted
from runtime.kernels.decoder import Sequence
from runtime.kernels.products import Kernels
from runtime.numerics import psnr_db
from runtime.student.model import Student


@pytest.fixture(autouse=True)
def chosen(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """This variant is the process's, without the matrix units that some processors have besides (test_kernel_prompt.py)."""
    monkeypatch.setattr(library, "_loaded", [(replace(kernels, prompt_function=None), kernels.variant)])


@pytest.fixture
def threads() -> Iterator[None]:
    before = counted.count()
    yield
    counted.use(before)


def said(backend: EagerBackend, ids: list[int]) -> torch.Tensor:
    """[T, V]: logits after each token, one by one."""
    cache = backend.new_cache()
    return torch.stack([torch.from_numpy(backend.decode(token, cache).logits) for token in ids])


@pytest.mark.parametrize("fields", [{}, *RELATIVES.values(), ALL], ids=["llama", *RELATIVES, "all"])
def test_steps_are_the_students(fields: dict[str, Any]) -> None:
    """Widths here are multiples of 16 and not: 48, 80, heads of 16, a vocabulary of 101."""
    student = relative_student(**fields) if fields else tiny_student()
    ids = some_ids(student.arch, 40).tolist()
    assert psnr_db(student(torch.tensor([ids])).logits[0], said(eager_from(student), ids)) >= 105


@pytest.mark.parametrize("fields", [{}, *RELATIVES.values(), ALL], ids=["llama", *RELATIVES, "all"])
def test_prompts_are_the_students(fields: dict[str, Any]) -> None:
    """In pieces of 7, 1 and 32: with and without what is left over of a panel."""
    student = relative_student(**fields) if fields else tiny_student()
    ids = some_ids(student.arch, 40).tolist()
    backend = eager_from(student)
    cache = backend.new_cache()
    for piece in (ids[:7], ids[7:8], ids[8:]):
        step = backend.prefill(piece, cache)
    assert psnr_db(student(torch.tensor([ids])).logits[0, -1], torch.from_numpy(step.logits)) >= 105


@pytest.mark.parametrize("d_head", [2, 8, 18, 64, 80])
def test_heads_of_any_size(d_head: int) -> None:
    student = tiny_student(n_layers=2, d_head=d_head, d_model=50, d_ff=37)
    ids = some_ids(student.arch, 20).tolist()
    assert psnr_db(student(torch.tensor([ids])).logits[0], said(eager_from(student), ids)) >= 105


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8"])
@pytest.mark.usefixtures("threads")
def test_threads_and_neighbours_change_no_bit(weights: Any) -> None:
    student = tiny_student(d_ff=200)  # wider than a turn of the sums
    backend = eager_from(student, weights)
    counted.use(1)
    alone = said(backend, some_ids(student.arch, 12).tolist())
    for count in (1, 2, 3, 5):
        counted.use(count)
        others = [backend.new_cache() for _ in range(10)]
        for at, token in enumerate(some_ids(student.arch, 12).tolist()):
            steps = backend.decode_many([*([3 * at] * 4), token, *([5 * at] * 5)], others)
            assert torch.equal(torch.from_numpy(steps[4].logits), alone[at])


def test_what_is_not_finite_is_not_hidden() -> None:
    """In an embedding, and in a slot that is attended to: nothing of the row is finite then, and nothing of its neighbour is lost."""
    backend = eager_from(tiny_student())
    caches = [backend.new_cache() for _ in range(2)]
    first = backend.decode(3, caches[0]).hidden
    backend.decode(3, caches[1])
    first[5] = float("nan")
    broken, whole = backend.decode_many([first, 4], caches)
    assert torch.from_numpy(broken.logits).isnan().all() and torch.from_numpy(whole.logits).isfinite().all()
    caches[1].slots[0, 0, 0, 0, 0] = np.inf
    assert not torch.from_numpy(backend.decode(5, caches[1]).logits).isfinite().any()


def test_wrong_memory_never_reaches_c() -> None:
    student: Student = tiny_student()
    backend = EagerBackend(student.arch, BOTH_HEADS, Held(lambda name: as_array(student.state_dict()[name])))
    decoder, cache = backend._steps, backend.new_cache()
    x, d = np.zeros((1, student.arch.d_model), np.float32), student.arch.d_model
    for inputs, slots, position in (
        (np.zeros((2, d), np.float32), cache.slots, 0),
        (x.astype(np.float64), cache.slots, 0),
        (x, cache.slots[:2], 0),
        (x, cache.slots.swapaxes(0, 1), 0),
        (x, np.zeros_like(cache.slots, np.float16), 0),
        (x, cache.slots, cache.slots.shape[3]),
        (x, cache.slots, -1),
    ):
        with pytest.raises(ValueError, match=r"fp32|a cache of"):
            decoder.step(inputs, [Sequence(slots, position, 1)])
