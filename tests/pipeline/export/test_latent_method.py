"""The decode file of a student that was trained with latent slots takes vectors as well; that of any other is the file that it always was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.exported_students import storable
from fakes.students import some_ids, tiny_student

from interlock.contracts.checkpoint import ModelArch
from interlock.contracts.export import DECODE, PREFILL, ShapeResult
from interlock.errors import UsageError
from interlock.voice import SilentVoice
from pipeline.export import shapes, torchscript
from runtime.backends.torchscript import TorchScriptBackend
from runtime.backends.torchscript_file import load_torchscript
from runtime.numerics import psnr_db
from runtime.student.model import Student

HALT = ModelArch(use_halt_head=True)
SLOTS = 6


def exported(student: Student, folder: Path, *, latent: bool = True) -> dict[str, Path]:
    files = {name: folder / name for name in (PREFILL, DECODE)}
    for name, path in files.items():
        torchscript.save(name, student, path, latent=latent)
    return files


def judged(files: dict[str, Path], student: Student, slots: int = SLOTS) -> dict[str, ShapeResult]:
    with SilentVoice().task("shapes") as task:
        prompt = some_ids(student.arch, 90).tolist()
        return shapes.validate_shapes(files, student, (16, 40), prompt, steps={16: 2, 40: 2}, latent_slots=slots, task=task)


def test_the_method_takes_a_vector_where_forward_takes_a_token(tmp_path: Path) -> None:
    student = tiny_student(HALT)
    found = torchscript.methods(exported(student, tmp_path)[DECODE], student.arch)
    assert set(found) == {"forward", "latent"}
    (first, *rest), (vector, *others) = found["forward"].inputs, found["latent"].inputs
    assert (first.name, first.shape, first.dtype) == ("input_ids", (1, 1), "int32")
    assert (vector.name, vector.shape, vector.dtype) == ("inputs_embeds", (1, 1, student.arch.d_model), "float32")
    assert rest == others and found["forward"].outputs == found["latent"].outputs


def test_a_token_and_its_embedding_are_the_same_step(tmp_path: Path) -> None:
    """Fed the embedding of a token, `latent` says what `forward` says of the token."""
    student = storable(tiny_student(HALT))
    module = load_torchscript(exported(student, tmp_path)[DECODE])
    position, token = torch.tensor([0], dtype=torch.int32), torch.tensor([[7]], dtype=torch.int32)
    one = module(token, position, *torchscript.caches(student.arch, 4))
    other = module.latent(student.embed(token), position, *torchscript.caches(student.arch, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_without_latent_training_there_is_no_such_method(tmp_path: Path) -> None:
    student = tiny_student(HALT)
    files = exported(student, tmp_path, latent=False)
    assert set(torchscript.methods(files[DECODE], student.arch)) == {"forward"}
    backend = TorchScriptBackend(files[PREFILL], files[DECODE], student.arch, use_halt_head=True)
    with pytest.raises(UsageError, match="tokens only"):
        backend.decode(np.zeros(student.arch.d_model, np.float32), backend.new_cache())


def test_every_length_is_followed_by_a_span_of_the_students(tmp_path: Path) -> None:
    """With weights that fp16 holds nothing is rounded: the chain that is fed its own states is as true as the other."""
    student = storable(tiny_student(HALT))
    for result in judged(exported(student, tmp_path), student).values():
        assert (result.status, result.latent_steps) == ("ok", SLOTS)
        assert result.latent_psnr_db is not None and result.latent_chain_psnr_db is not None
        assert min(result.latent_psnr_db, result.latent_chain_psnr_db) >= 110
    assert "latent_steps" not in judged(exported(student, tmp_path, latent=False), student, 0)["16"].model_dump()


def test_a_latent_method_that_forgets_the_cache_is_rejected(tmp_path: Path) -> None:
    student = storable(tiny_student(HALT))
    files = exported(student, tmp_path)

    class Forgetful(torch.nn.Module):
        """Right for tokens; a vector is run as if nothing stood before it."""

        def __init__(self) -> None:
            super().__init__()
            self.student = student

        def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
            hidden = self.student.extend(input_ids, position_ids, k, v)
            return self.student.logits(hidden), self.student.halt(hidden[:, -1]), hidden

        def latent(self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.forward(inputs_embeds, position_ids * 0, k, v)

    at = torch.zeros(1, dtype=torch.int32)
    rest = (at, *torchscript.caches(student.arch, 32))
    inputs = {"forward": (at[None], *rest), "latent": (torch.zeros(1, 1, student.arch.d_model), *rest)}
    with pytest.warns(DeprecationWarning):
        torch.jit.trace_module(Forgetful(), inputs, check_trace=False).save(str(files[DECODE]))  # type: ignore[no-untyped-call]
    for result in judged(files, student).values():
        assert result.status == "rejected" and str(result.error).startswith("latent ") and "prefill" not in str(result.error)


def test_the_backend_feeds_a_vector_as_the_student_does(tmp_path: Path) -> None:
    student = storable(tiny_student(HALT))
    files = exported(student, tmp_path)
    backend = TorchScriptBackend(files[PREFILL], files[DECODE], student.arch, use_halt_head=True)
    ids = some_ids(student.arch, 9).tolist()
    cache = backend.new_cache()
    step = backend.decode(backend.prefill(ids, cache).hidden, cache)
    hidden = student.hidden(torch.tensor([ids]))
    wanted = student.hidden(torch.cat([student.embed(torch.tensor([ids])), hidden[:, -1:]], 1))[0, -1]
    assert cache.position == 10 and psnr_db(wanted, torch.from_numpy(step.hidden)) >= 110
