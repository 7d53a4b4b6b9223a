"""Qwen2, Qwen3, Mistral and SmolLM3 as the student computes them: those of transformers, and what each field means."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes.relatives import ALL, RELATIVES, relative_student, twin
from fakes.students import BOTH_HEADS, some_ids, tiny_arch
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.numerics import compare_logits
from runtime.student.model import Student

LENGTH, PROMPT = 90, 40  # both beyond the window of 24


def cache_of(arch: Arch, slots: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (arch.n_layers, arch.n_kv_heads, slots, arch.d_head)
    return torch.full(shape, 30.0), torch.full(shape, -30.0)


@pytest.mark.train
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", RELATIVES)
def test_logits_and_cached_steps_are_those_of_transformers(family: str, tied: bool) -> None:
    student = relative_student(ModelArch(), tie_embeddings=tied, **RELATIVES[family])
    theirs, ids = twin(student, family), some_ids(student.arch, 2, LENGTH)
    whole = compare_logits(theirs(ids).logits, student(ids).logits)
    assert whole.psnr_db >= 100 and whole.argmax_flips == 0

    first = theirs(ids[:1, :PROMPT], use_cache=True)
    said, kept = [first.logits], first.past_key_values
    cache = cache_of(student.arch, 96)
    ours = [student.extend(ids[:1, :PROMPT], torch.arange(PROMPT, dtype=torch.int32), *cache)]
    for place in range(PROMPT, LENGTH):
        step = theirs(ids[:1, place : place + 1], past_key_values=kept, use_cache=True)
        said.append(step.logits)
        ours.append(student.extend(ids[:1, place : place + 1], torch.tensor([place], dtype=torch.int32), *cache))
    stepped = compare_logits(torch.cat(said, 1), student.logits(torch.cat(ours, 1)))
    assert stepped.psnr_db >= 100 and stepped.argmax_flips == 0


@pytest.mark.parametrize("fields", [*RELATIVES.values(), ALL], ids=[*RELATIVES, "all"])
def test_parameters_are_those_of_the_architecture(fields: dict[str, Any]) -> None:
    arch = tiny_arch(**fields)
    assert {name: tuple(tensor.shape) for name, tensor in Student(arch, BOTH_HEADS).state_dict().items()} == arch.weight_shapes(BOTH_HEADS)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_token_changes_what_can_see_it_and_nothing_else(data: st.DataObject) -> None:
    """Through L layers with a window of W, a position sees the L · (W - 1) before it."""
    student = relative_student(n_layers=2, sliding_window=7, attention_bias=True, qk_norm=True, no_rope_layers=(1,))
    place = data.draw(st.integers(0, 20))
    ids = some_ids(student.arch, 1, 40, seed=data.draw(st.integers(0, 99)))
    changed = ids.clone()
    changed[0, place] = (changed[0, place] + data.draw(st.integers(1, student.arch.vocab_size - 1))) % student.arch.vocab_size
    before, after = student(ids).logits[0], student(changed).logits[0]
    differs = (before != after).any(-1).nonzero()[:, 0].tolist()
    assert min(differs) == place and max(differs) == place + 2 * 6


@pytest.mark.parametrize("fields", [*RELATIVES.values(), ALL], ids=[*RELATIVES, "all"])
def test_chunks_and_single_steps_equal_the_whole_with_garbage_in_later_slots(fields: dict[str, Any]) -> None:
    student = relative_student(**fields)
    ids, cache = some_ids(student.arch, 1, 70), cache_of(student.arch, 96)
    spans = [(0, 30), (30, 55), *((t, t + 1) for t in range(55, 70))]
    parts = [student.extend(ids[:, a:b], torch.arange(a, b, dtype=torch.int32), *cache) for a, b in spans]
    assert compare_logits(student.logits(student.hidden(ids)), student.logits(torch.cat(parts, 1))).psnr_db >= 110


def test_without_rotation_the_order_of_what_came_before_does_not_matter() -> None:
    student = relative_student(n_layers=1, no_rope_layers=(0,))
    ids = some_ids(student.arch, 1, 30)
    shuffled = torch.cat([ids[:, torch.randperm(29, generator=torch.Generator().manual_seed(0))], ids[:, 29:]], 1)
    torch.testing.assert_close(student(shuffled).logits[:, -1], student(ids).logits[:, -1])
    rotated = relative_student(n_layers=1)
    assert not torch.allclose(rotated(shuffled).logits[:, -1], rotated(ids).logits[:, -1], atol=1e-2)


def test_normed_queries_and_keys_have_no_scale_of_their_own() -> None:
    student = relative_student(qk_norm=True, norm_eps=1e-9)
    ids = some_ids(student.arch, 1, 30)
    expected = student(ids).logits
    for block in student.blocks:
        block.attn.wq.weight.data *= 8
        block.attn.wk.weight.data *= 0.25
    torch.testing.assert_close(student(ids).logits, expected)


def test_training_reaches_every_parameter() -> None:
    student = relative_student(ModelArch(), **ALL).requires_grad_(True)
    ids = some_ids(student.arch, 2, 40)
    torch.nn.functional.cross_entropy(student(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    still = [name for name, parameter in student.named_parameters() if parameter.grad is None or not parameter.grad.abs().max() > 0]
    assert still == []
