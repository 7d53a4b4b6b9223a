"""`decode_many` and `score` are `decode` one by one, bit for bit, on every backend and in any composition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fakes.function_backend import FunctionBackend
from fakes.students import some_ids, tiny_student
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.contracts.checkpoint import ModelArch
from interlock.contracts.export import DECODE, PREFILL
from interlock.errors import UsageError
from runtime.backends.eager import eager_from
from runtime.backends.protocol import Backend, Step, Vector

VOCABULARY = 101


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backend[Any]]:
    from pipeline.export import torchscript
    from runtime.backends.torchscript import TorchScriptBackend

    student = tiny_student(ModelArch(use_halt_head=True), max_position=300)
    folder = tmp_path_factory.mktemp("files")
    files = [folder / name for name in (PREFILL, DECODE)]
    for path in files:
        torchscript.save(path.name, student, path, latent=True)
    return {
        "eager": eager_from(student),
        "torchscript": TorchScriptBackend(files[0], files[1], student.arch, use_halt_head=True),
        "function": FunctionBackend(lambda ids: np.full(VOCABULARY, sum(ids), np.float32)),
    }


def same(one: Step, other: Step) -> bool:
    if one.halt_logits is not None and other.halt_logits is not None and not np.array_equal(one.halt_logits, other.halt_logits):
        return False
    alike = (one.halt_logits is None) == (other.halt_logits is None)
    return alike and np.array_equal(one.logits, other.logits) and np.array_equal(one.hidden, other.hidden)


def started(backend: Backend[Any], prompts: Sequence[Sequence[int]]) -> list[Any]:
    caches = [backend.new_cache() for _ in prompts]
    for prompt, cache in zip(prompts, caches, strict=True):
        backend.prefill(prompt, cache)
    return caches


ids = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20)


@pytest.mark.parametrize("name", ["eager", "torchscript", "function"])
@settings(max_examples=12, deadline=None)
@given(prompts=st.lists(ids, min_size=1, max_size=11), data=st.data())
def test_a_batch_is_its_sequences(backends: dict[str, Backend[Any]], name: str, prompts: list[list[int]], data: st.DataObject) -> None:
    backend = backends[name]
    together, alone = started(backend, prompts), started(backend, prompts)
    for turn in range(3):
        chosen = data.draw(st.permutations(range(len(prompts))))[: data.draw(st.integers(1, len(prompts)))]
        tokens = [(7 * place + turn) % VOCABULARY for place in chosen]
        steps = backend.decode_many(tokens, [together[place] for place in chosen])
        for token, place, step in zip(tokens, chosen, steps, strict=True):
            assert same(step, backend.decode(token, alone[place])) and together[place].position == alone[place].position


@pytest.mark.parametrize("name", ["eager", "torchscript", "function"])
@settings(max_examples=12, deadline=None)
@given(prompt=ids, drafts=st.lists(ids, min_size=1, max_size=3), keep=st.integers(0, 20))
def test_scores_are_steps_and_can_be_taken_back(
    backends: dict[str, Backend[Any]], name: str, prompt: list[int], drafts: list[list[int]], keep: int
) -> None:
    backend = backends[name]
    [together], [alone] = started(backend, [prompt]), started(backend, [prompt])
    for draft in drafts:
        kept = together.position + min(keep, len(draft))
        for token, step in zip(draft, backend.score(draft, together), strict=True):
            assert same(step, backend.decode(token, alone))
        together.rewind(kept)
        alone.rewind(kept)


def test_latent_vectors_and_tokens_share_a_batch(backends: dict[str, Backend[Any]]) -> None:
    backend = backends["eager"]
    prompts = some_ids(tiny_student().arch, 3, 9).tolist()
    together, alone = started(backend, prompts), started(backend, prompts)
    hidden = backend.decode(5, together[0]).hidden
    backend.decode(5, alone[0])
    given_now: list[int | Vector] = [hidden, 17, -hidden]
    for inp, step, cache in zip(given_now, backend.decode_many(given_now, together), alone, strict=True):
        assert same(step, backend.decode(inp, cache))


@pytest.mark.parametrize("name", ["eager", "torchscript", "function"])
def test_what_does_not_fit_appends_nothing(backends: dict[str, Backend[Any]], name: str) -> None:
    backend = backends[name]
    roomy, full = started(backend, [[1, 2], [3] * backend.capacity])
    with pytest.raises(UsageError):
        backend.decode_many([1, 1], [roomy, full])
    with pytest.raises(UsageError):
        backend.score([1] * backend.capacity, roomy)
    for caches in ([roomy], [roomy, roomy]):
        with pytest.raises(ValueError, match="different caches"):
            backend.decode_many([1, 1], caches)
    assert roomy.position == 2 and backend.decode_many([], []) == [] == backend.score([], roomy)
