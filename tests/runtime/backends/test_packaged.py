"""A package as a backend says what the student says, however a prompt falls on its lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fakes.converted_students import converted

    from pipeline.coreml.merge import merge_functions

    made = tmp_path_factory.mktemp("backend") / "model.mlpackage"
    merge_functions(converted().packages, "decode", made, lambda _: None)
    return made


@pytest.mark.parametrize("count", [1, 20, 32, 33, 64, 70, 90])
def test_any_prompt_length_gives_the_students_logits(package: Path, count: int) -> None:
    """Lengths 32 and 64, 96 slots: padded, exact, in pieces, and at the end of the cache one by one. 50 dB is the gate's bound for fp16."""
    import torch
    from fakes.converted_students import SLOTS, converted

    from pipeline.coreml.facts import read_package
    from runtime.backends.reference import reference_backend
    from runtime.numerics import psnr_db

    backend, student = reference_backend(package, read_package(package), "fp16"), converted().exported.student
    ids = [(7 * place + 3) % student.arch.vocab_size for place in range(count + 2)]
    cache = backend.new_cache()
    steps = [backend.prefill(ids[:count], cache), backend.decode(ids[count], cache)]
    cache.rewind(count)
    steps += [backend.decode(ids[count + 1], cache)]
    assert backend.capacity == SLOTS and cache.position == count + 1
    for step, text in zip(steps, (ids[:count], ids[: count + 1], [*ids[:count], ids[count + 1]]), strict=True):
        with torch.inference_mode():
            wanted = student(torch.tensor([text]))
        assert wanted.halt_logits is not None and step.halt_logits is not None
        # two numbers near zero have no peak of their own: both heads are products of one width, so their errors are of one size
        heads = torch.from_numpy(np.concatenate([step.logits, step.halt_logits]))
        assert psnr_db(torch.cat([wanted.logits[0, -1], wanted.halt_logits[0]]), heads) >= 50
        assert psnr_db(wanted.hidden[0, -1], torch.from_numpy(step.hidden)) >= 50
        assert step.hidden.dtype == step.logits.dtype == np.float32


def test_many_are_one_by_one(package: Path) -> None:
    from pipeline.coreml.facts import read_package
    from runtime.backends.reference import reference_backend

    backend = reference_backend(package, read_package(package), "fast")
    together, alone = ([backend.new_cache() for _ in range(2)] for _ in range(2))
    steps = [*backend.decode_many([1, 2], together), *backend.score([3, 4, 5], together[0])]
    wanted = [*map(backend.decode, [1, 2], alone), *(backend.decode(token, alone[0]) for token in [3, 4, 5])]
    assert all(
        np.array_equal(one.logits, other.logits) and np.array_equal(one.hidden, other.hidden) for one, other in zip(steps, wanted, strict=True)
    )
