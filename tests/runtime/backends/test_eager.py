"""Backend `eager` says what Student says, whatever way the sequence was built up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes.students import BOTH_HEADS, some_ids, tiny_student
from fakes.units import prompt_db
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.contracts.checkpoint import ModelArch
from interlock.errors import UsageError
from runtime.backends import products
from runtime.backends.eager import EagerBackend, EagerCache, eager_from
from runtime.backends.held import Held
from runtime.backends.protocol import Backend, Step
from runtime.numerics import psnr_db
from runtime.student.model import Student

SHAPES = [(4, 4, 8, True), (4, 2, 16, False), (6, 1, 64, True)]


def close(step: Step, student: Student, ids: list[int], least_db: float | None = None) -> None:
    """`step` is what the student says after `ids`."""
    least_db = prompt_db(110) if least_db is None else least_db
    out = student(torch.tensor([ids]))
    assert out.halt_logits is not None and step.halt_logits is not None
    assert step.logits.dtype == step.halt_logits.dtype == step.hidden.dtype == np.float32
    # Together: logits of both heads have unit scale, and two numbers alone may both be near zero.
    said = np.concatenate([step.logits, step.halt_logits])
    assert psnr_db(torch.cat([out.logits[0, -1], out.halt_logits[0]]), torch.from_numpy(said)) >= least_db
    assert psnr_db(out.hidden[0, -1], torch.from_numpy(step.hidden)) >= least_db


@pytest.mark.parametrize(("n_heads", "n_kv_heads", "d_head", "tied"), SHAPES, ids=["mha-tied", "gqa", "mqa-tied"])
def test_prompt_and_steps_equal_the_student(n_heads: int, n_kv_heads: int, d_head: int, tied: bool) -> None:
    student = tiny_student(n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_head, tie_embeddings=tied)
    backend = eager_from(student)
    cache = backend.new_cache()
    ids = some_ids(student.arch, 60).tolist()
    close(backend.prefill(ids[:40], cache), student, ids[:40])
    for count in range(41, 61):
        close(backend.decode(ids[count - 1], cache), student, ids[:count])
    assert cache.position == 60


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 20))
def test_any_division_into_prompts_and_steps_and_any_rewind_is_the_same_sequence(counts: list[int], keep: int) -> None:
    student = tiny_student(n_layers=2)
    backend = eager_from(student)
    cache = backend.new_cache()
    detour = some_ids(student.arch, 25, seed=1).tolist()
    ids = detour[:keep] + some_ids(student.arch, sum(counts), seed=2).tolist()
    backend.prefill(detour, cache)
    cache.rewind(keep)
    for count in counts:
        chunk = ids[cache.position : cache.position + count]
        step = backend.prefill(chunk, cache)
    close(step, student, ids)


def test_long_prompts_go_in_chunks_and_the_cache_grows_without_loss() -> None:
    student = tiny_student(n_layers=2, max_position=1100)
    backend = eager_from(student)
    cache = backend.new_cache()
    assert cache.slots.shape[3] == 256
    ids = some_ids(student.arch, 1100).tolist()
    close(backend.prefill(ids[:250], cache), student, ids[:250])
    for token in ids[250:262]:  # across the first growth, one token at a time
        step = backend.decode(token, cache)
    close(step, student, ids[:262])
    close(backend.prefill(ids[262:], cache), student, ids)
    assert cache.slots.shape[3] == 1100


def test_a_full_sequence_is_refused_before_anything_is_written() -> None:
    backend = eager_from(tiny_student(max_position=8))
    cache = backend.new_cache()
    with pytest.raises(UsageError, match="9 positions, the model has 8"):
        backend.prefill(list(range(9)), cache)
    assert cache.position == 0
    backend.prefill(list(range(8)), cache)
    with pytest.raises(UsageError):
        backend.decode(1, cache)
    assert cache.position == 8


def test_garbage_beyond_the_position_does_not_matter() -> None:
    student = tiny_student()
    backend = eager_from(student)
    cache = backend.new_cache()
    cache.slots.fill(np.nan)
    ids = some_ids(student.arch, 30).tolist()
    backend.prefill(ids[:20], cache)
    backend.prefill(ids[20:29], cache)
    close(backend.decode(ids[29], cache), student, ids)


def test_a_latent_vector_takes_the_place_of_an_embedding() -> None:
    student = tiny_student()
    backend = eager_from(student)
    cache = backend.new_cache()
    ids = some_ids(student.arch, 10).tolist()
    hidden = backend.prefill(ids, cache).hidden
    step = backend.decode(hidden, cache)
    inputs = torch.cat([student.embed(torch.tensor([ids])), torch.from_numpy(hidden)[None, None]], 1)
    expected = student.logits(student.hidden(inputs))[0, -1]
    assert psnr_db(expected, torch.from_numpy(step.logits)) >= prompt_db(110)


def test_sequences_share_weights_and_nothing_else() -> None:
    student = tiny_student()
    backend = eager_from(student)
    first, second = backend.new_cache(), backend.new_cache()
    a, b = some_ids(student.arch, 12, seed=1).tolist(), some_ids(student.arch, 12, seed=2).tolist()
    for i in range(11):
        backend.decode(a[i], first)
        backend.decode(b[i], second)
    close(backend.decode(a[11], first), student, a)
    close(backend.decode(b[11], second), student, b)


def test_results_are_the_callers_own() -> None:
    backend = eager_from(tiny_student())
    cache = backend.new_cache()
    step = backend.prefill([1, 2, 3], cache)
    kept = step.logits.copy()
    step.logits.fill(-1)
    step.hidden.fill(-1)
    cache.rewind(2)
    assert np.array_equal(backend.decode(3, cache).logits.argmax(), kept.argmax())


@pytest.mark.parametrize("tied", [True, False])
def test_bfloat16_products_stay_within_their_rounding(tied: bool) -> None:
    student = tiny_student(tie_embeddings=tied)
    backend = eager_from(student, "bf16")
    cache = backend.new_cache()
    ids = some_ids(student.arch, 64).tolist()
    # Weight, input and output of a product are rounded to 8 bits, -53 dB each (uniform within half a step, relative to the value). 4 products
    # in series per layer and the head, as independent noise: -53 + 10·log10(3·(4·3+1)) = -37 dB relative to rms; peaks only help.
    close(backend.prefill(ids[:63], cache), student, ids[:63], least_db=37)
    close(backend.decode(ids[63], cache), student, ids, least_db=37)


def test_half_weights_are_the_same_values() -> None:
    student = tiny_student()
    halves = {name: tensor.half() for name, tensor in student.state_dict().items()}
    student.load_state_dict(halves)
    backend = EagerBackend(student.arch, BOTH_HEADS, Held(lambda name: halves[name].numpy()))
    close(backend.prefill([5, 6, 7], backend.new_cache()), student, [5, 6, 7])


def test_without_a_halt_head_there_are_no_halt_logits() -> None:
    backend = eager_from(tiny_student(ModelArch()))
    assert backend.prefill([1], backend.new_cache()).halt_logits is None


def test_no_ids_and_a_rewind_forward_are_bugs() -> None:
    backend: Backend[EagerCache] = eager_from(tiny_student())
    cache = backend.new_cache()
    with pytest.raises(ValueError, match="at least one"):
        backend.prefill([], cache)
    with pytest.raises(ValueError, match="rewind to 1"):
        cache.rewind(1)


@pytest.mark.parametrize("rows", [products.PART // 600 // 32 * 32, products.PART // 600 // 32 * 64 + 33])
def test_tiles_made_in_parts_hold_every_weight(rows: int) -> None:
    weight = torch.randn(rows, 600, generator=torch.Generator().manual_seed(0)).half()
    assert torch.equal(products.Tiled(weight).select(torch.arange(rows)), weight.float())


@pytest.mark.parametrize("form", [products.Tiled, products.Plain, products.PlainBFloat16, products.PackedBFloat16])
@pytest.mark.parametrize("shape", [(64, 48), (101, 80), (7, 16)])
def test_every_layout_is_the_same_product(form: type[products.Product], shape: tuple[int, int]) -> None:
    if form is products.PackedBFloat16 and not products.can_pack():
        pytest.skip("this processor or torch build has no packed bf16 products")
    generator = torch.Generator().manual_seed(3)
    weight, x = torch.randn(shape, generator=generator), torch.randn(9, shape[1], generator=generator)
    if "BFloat16" in form.__name__:
        weight, x = weight.bfloat16().float(), x.bfloat16().float()
    built = form(weight)  # type: ignore[call-arg]
    expected = (x.double() @ weight.double().T).float()
    least_db = 45 if "BFloat16" in form.__name__ else 120  # only the result is rounded: half a step of 8 bits is -54 dB
    assert psnr_db(expected, built.rows(x)) >= least_db
    assert psnr_db(expected[4], built.vector(x[4])) >= least_db
    if isinstance(built, products.Tiled | products.Plain | products.PlainBFloat16):
        assert torch.equal(built.select(torch.tensor([0, 6, 3])), weight[[0, 6, 3]])
