"""The step in C, in every variant that this processor runs, is the reference student's, and one row of it is what it is alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fakes.relatives import ALL, RELATIVES, relative_student
from fakes.students import BOTH_HEADS, some_ids, tiny_student

from runtime.backends.eager import EagerBackend, eager_from
from runtime.backends.held import Held
from runtime.kernels import library
from runtime.kernels.decoder import Sequence
from runtime.kernels.products import Kernels
from runtime.numerics import psnr_db
from runtime.student.model import Student


@pytest.fixture(autouse=True)
def chosen(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """This variant is the process's."""
    monkeypatch.setattr(library, "_loaded", [(kernels, kernels.variant)])


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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


@pytest.mark.parametrize("d_head", [2, 8, 18, 64, 80])
def test_heads_of_any_size(d_head: int) -> None:
    student = tiny_student(n_layers=2, d_head=d_head, d_model=50, d_ff=37)
    ids = some_ids(student.arch, 20).tolist()
    assert psnr_db(student(torch.tensor([ids])).logits[0], said(eager_from(student), ids)) >= 105


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8"])
@pytest.mark.usefixtures("threads")
def test_threads_and_neighbours_change_no_bit(weights: Any) -> None:
    student = tiny_student(d_ff=100)
    backend = eager_from(student, weights)
    torch.set_num_threads(1)
    alone = said(backend, some_ids(student.arch, 12).tolist())
    for count in (1, 2, 3, 5):
        torch.set_num_threads(count)
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
    caches[1].slots[0, 0, 0, 0, 0] = float("inf")
    assert not torch.from_numpy(backend.decode(5, caches[1]).logits).isfinite().any()


def test_wrong_memory_never_reaches_c() -> None:
    student: Student = tiny_student()
    backend = EagerBackend(student.arch, BOTH_HEADS, Held(student.state_dict().__getitem__))
    decoder, cache = backend._decoder, backend.new_cache()
    assert decoder is not None
    x, d = torch.zeros(1, student.arch.d_model), student.arch.d_model
    for inputs, slots, position in (
        (torch.zeros(2, d), cache.slots, 0),
        (x.double(), cache.slots, 0),
        (x, cache.slots[:2], 0),
        (x, cache.slots.transpose(0, 1), 0),
        (x, cache.slots.half(), 0),
        (x, cache.slots, cache.slots.shape[3]),
        (x, cache.slots, -1),
    ):
        with pytest.raises(ValueError, match=r"fp32|a cache of"):
            decoder.step(inputs, [Sequence(slots, position, 1)])
