"""The student is transformers' Llama, is causal, and says the same with a cache as without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes.relatives import twin
from fakes.students import BOTH_HEADS, some_ids, tiny_arch, tiny_student
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.numerics import compare_logits
from runtime.student.model import Student

LINEAR = {"kind": "linear", "factor": 4.0}
LLAMA3 = {"kind": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position": 64}


@pytest.mark.train
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("scaling", [None, LINEAR, LLAMA3], ids=["plain", "linear", "llama3"])
@pytest.mark.parametrize(("n_heads", "n_kv_heads", "d_head"), [(4, 4, 8), (6, 2, 16), (4, 1, 64)], ids=["mha", "gqa", "mqa"])
def test_logits_are_those_of_transformers(n_heads: int, n_kv_heads: int, d_head: int, scaling: dict[str, Any] | None, tied: bool) -> None:
    student = tiny_student(ModelArch(), n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_head, rope_scaling=scaling, tie_embeddings=tied)
    ids = some_ids(student.arch, 2, 96)
    compared = compare_logits(twin(student)(ids).logits, student(ids).logits)
    assert compared.psnr_db >= 100
    assert compared.argmax_flips == 0
    assert compared.positions == 192


def test_parameters_are_those_of_the_architecture() -> None:
    for arch in (tiny_arch(), tiny_arch(tie_embeddings=True)):
        for heads in (ModelArch(), BOTH_HEADS):
            found = {name: tuple(tensor.shape) for name, tensor in Student(arch, heads).state_dict().items()}
            assert found == arch.weight_shapes(heads)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_later_token_changes_no_earlier_logits(data: st.DataObject) -> None:
    student = tiny_student()
    ids = some_ids(student.arch, 1, 24, seed=data.draw(st.integers(0, 99)))
    place = data.draw(st.integers(0, 23))
    changed = ids.clone()
    changed[0, place] = (changed[0, place] + data.draw(st.integers(1, student.arch.vocab_size - 1))) % student.arch.vocab_size
    before, after = student(ids).logits[0], student(changed).logits[0]
    assert torch.equal(before[:place], after[:place])
    assert not torch.equal(before[place], after[place])


def empty_cache(arch: Arch, slots: int, fill: float, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (arch.n_layers, arch.n_kv_heads, slots, arch.d_head)
    return torch.full(shape, fill, dtype=dtype), torch.full(shape, -fill, dtype=dtype)


def test_chunks_and_single_steps_equal_the_whole_with_garbage_in_later_slots() -> None:
    student = tiny_student()
    ids = some_ids(student.arch, 1, 70)
    cache = empty_cache(student.arch, 96, fill=50.0)
    spans = [(0, 30), (30, 55), *((t, t + 1) for t in range(55, 70))]
    parts = [student.extend(ids[:, a:b], torch.arange(a, b, dtype=torch.int32), *cache) for a, b in spans]
    assert compare_logits(student.logits(student.hidden(ids)), student.logits(torch.cat(parts, 1))).psnr_db >= 110
    assert (cache[0][:, :, 70:] == 50.0).all()


def test_right_padding_of_a_prompt_does_not_matter() -> None:
    student = tiny_student()
    ids = some_ids(student.arch, 1, 40)
    cache = empty_cache(student.arch, 64, fill=0.0)
    padded = torch.cat([ids, torch.zeros(1, 10, dtype=torch.int64)], 1)
    hidden = student.extend(padded, torch.arange(50, dtype=torch.int32), *cache)
    after = student.extend(ids[:, :1], torch.tensor([40], dtype=torch.int32), *cache)
    expected = student.hidden(torch.cat([ids, ids[:, :1]], 1))
    torch.testing.assert_close(hidden[:, :40], expected[:, :40])
    torch.testing.assert_close(after[:, 0], expected[:, 40])


def test_embeddings_in_place_of_ids_are_the_same_input() -> None:
    student = tiny_student()
    ids = some_ids(student.arch, 1, 12)
    positions = torch.arange(12, dtype=torch.int32)
    embedded = student.embed(ids)
    assert torch.equal(student.hidden(ids), student.hidden(embedded))
    by_id = student.extend(ids, positions, *empty_cache(student.arch, 16, 0.0))
    assert torch.equal(by_id, student.extend(embedded, positions, *empty_cache(student.arch, 16, 0.0)))


def test_heads_read_the_last_position() -> None:
    student = tiny_student()
    ids = some_ids(student.arch, 3, 20)
    out = student(ids)
    shorter = student(ids[:, :13])
    assert out.halt_logits is not None and out.quality is not None and shorter.halt_logits is not None
    assert out.logits.shape == (3, 20, 101) and out.halt_logits.shape == (3, 2) and out.quality.shape == (3,)
    torch.testing.assert_close(out.halt_logits, student.halt(out.hidden[:, 19]))
    torch.testing.assert_close(shorter.halt_logits, student.halt(out.hidden[:, 12]))
    assert ((out.quality > 0) & (out.quality < 1)).all()
    without = tiny_student(ModelArch())(ids)
    assert without.halt_logits is None and without.quality is None


def test_bfloat16_and_a_half_cache_stay_within_their_rounding() -> None:
    student = tiny_student()
    ids = some_ids(student.arch, 1, 64)
    reference = student(ids).logits
    cache = empty_cache(student.arch, 64, 0.0, torch.float16)
    stored = student.logits(student.extend(ids, torch.arange(64, dtype=torch.int32), *cache))
    # fp16 keeps 11 bits: 2^-11 relative error per stored value is -66 dB, and averages out over a head's slots.
    assert compare_logits(reference, stored).psnr_db >= 66
    narrow = student.to(torch.bfloat16)
    # 8 bits are -48 dB per rounding; about 10 roundings per layer add up as noise: -48 + 10·log10(30) = -33 dB.
    assert compare_logits(reference, narrow(ids).logits).psnr_db >= 33


def test_large_activations_do_not_overflow_the_norm_in_half_precision() -> None:
    norm = tiny_student().norm_f.half()
    x = torch.full((1, 48), 1700.0, dtype=torch.float16)
    torch.testing.assert_close(norm(x), torch.ones_like(x))


def test_trace_serves_every_length_and_capacity() -> None:
    student = tiny_student()
    ids = some_ids(student.arch, 1, 20)

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = student

        def forward(self, x: torch.Tensor, positions: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return self.student.extend(x, positions, k, v)

    positions = torch.arange(20, dtype=torch.int32)
    example = (ids[:, :8].int(), positions[:8], *empty_cache(student.arch, 16, 0.0))
    with pytest.warns(DeprecationWarning):
        traced = torch.jit.trace(Step(), example, check_trace=False)
    cache = empty_cache(student.arch, 32, 0.0)
    parts = [traced(ids[:, a:b].int(), positions[a:b], *cache) for a, b in ((0, 13), (13, 19), (19, 20))]
    torch.testing.assert_close(torch.cat(parts, 1), student.hidden(ids))
