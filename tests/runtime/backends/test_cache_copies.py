"""A copied cache begins a sequence of its own: it goes on as the original would have, and neither sees what the other is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.students import some_ids, tiny_student

from interlock.contracts.checkpoint import ModelArch
from interlock.contracts.export import DECODE, PREFILL
from runtime.backends.eager import eager_from
from runtime.backends.protocol import Backend, Copyable

pytestmark = pytest.mark.train

STUDENT = tiny_student(ModelArch(), max_position=600)
IDS = some_ids(STUDENT.arch, 300).tolist()


def torchscript(folder: Path) -> Backend[Any]:
    from pipeline.export import torchscript
    from runtime.backends.torchscript import TorchScriptBackend

    for name in (PREFILL, DECODE):
        torchscript.save(name, STUDENT, folder / name)
    return TorchScriptBackend(folder / PREFILL, folder / DECODE, STUDENT.arch, use_halt_head=False)


@pytest.mark.parametrize("name", ["eager", "torchscript"])
def test_a_copy_goes_on_as_the_original_does(name: str, tmp_path: Path) -> None:
    backend: Backend[Any] = eager_from(STUDENT) if name == "eager" else torchscript(tmp_path)
    original: Any = backend.new_cache()
    assert isinstance(backend.new_cache(), Copyable)
    backend.prefill(IDS, original)
    expected = [backend.decode(token, original).logits for token in (7, 8)]
    original.rewind(300)
    for position in (300, 290, 0):  # 300 is beyond what a new cache has room for
        copied = original.copy(position)
        assert copied.position == position and copied.size_bytes > 0
        backend.decode(1, original)  # what the original is given now is none of the copy's business, nor the other way round
        if position < 300:
            backend.prefill(IDS[position:], copied)
        for token, logits in zip((7, 8), expected, strict=True):
            found = backend.decode(token, copied).logits
            # The same sums; those of the last ten ids were of other groups of rows.
            assert np.array_equal(found, logits) if position == 300 else np.allclose(found, logits, atol=1e-4)
        original.rewind(300)
    assert np.array_equal(backend.decode(7, original).logits, expected[0])
    with pytest.raises(ValueError, match="rewind to 400"):
        original.copy(400)
