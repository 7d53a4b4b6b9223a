"""Lengths are judged on the saved files: what is right passes with figures, what is wrong is a result with a reason."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from fakes.artifacts import describe, write_checkpoint
from fakes.byte_tokenizer import info_of, tokenizer_json
from fakes.exported_students import Exported, export_student, storable
from fakes.students import some_ids, tiny_student

from interlock.contracts.checkpoint import TOKENIZER, ModelArch
from interlock.contracts.export import DECODE, PREFILL, ShapeResult
from interlock.voice import SilentVoice
from pipeline.export import shapes
from runtime.backends.torchscript_file import load_torchscript
from runtime.numerics import compare_logits
from runtime.student.model import Student

HALT = ModelArch(use_halt_head=True)
LENGTHS = (64, 128, 256)


def storable_student(heads: ModelArch, **changes: int) -> Student:
    return storable(tiny_student(heads, **changes))


def judged(exported: Exported, student: Student, *, lengths: tuple[int, ...] = LENGTHS, without: str = "", steps: int = 6) -> dict[str, ShapeResult]:
    files = {name: path for name, path in exported.files.items() if name != without}
    prompt = some_ids(student.arch, 90).tolist()
    with SilentVoice().task("shapes") as task:
        return shapes.validate_shapes(files, student, lengths, prompt, steps=dict.fromkeys(lengths, steps), task=task)


@pytest.mark.parametrize("heads", [HALT, ModelArch()], ids=["halt head", "no halt head"])
def test_every_length_of_a_true_export_passes(heads: ModelArch, tmp_path: Path) -> None:
    student = storable_student(heads, max_position=300)
    results = judged(export_student(student, tmp_path), student)
    assert list(results) == ["64", "128", "256"]
    for result in results.values():
        assert (result.status, result.error, result.argmax_flips, result.decode_steps) == ("ok", None, 0, 6)
        assert result.psnr_db is not None and result.decode_psnr_db is not None and min(result.psnr_db, result.decode_psnr_db) >= 110
        assert result.kl_max is not None and result.kl_max < 1e-9
        assert result.halt_flips == (0 if heads.use_halt_head else None)


def test_weights_that_fp16_must_round_show_in_the_figures(tmp_path: Path) -> None:
    """Rounding is a loss of the files like any other: the reference is the student of the checkpoint, not the student as stored."""
    student = tiny_student(HALT)
    result = judged(export_student(student, tmp_path), student, lengths=(64,))["64"]
    assert result.psnr_db is not None and 60 < result.psnr_db < 90


def test_figures_are_those_of_the_whole_sequence(tmp_path: Path) -> None:
    """Slices joined, against one comparison of everything, on lengths that no slice divides."""
    student = tiny_student(HALT, max_position=1200)
    exported = export_student(student, tmp_path)
    result = judged(exported, student, lengths=(1100,), steps=0)["1100"]
    ids = torch.tensor(some_ids(student.arch, 90).tolist(), dtype=torch.int32).repeat(13)[None, :1100]
    whole = compare_logits(student(ids).logits, load_torchscript(exported.files[PREFILL])(ids)[0])
    assert (result.psnr_db, result.kl_mean, result.kl_max) == pytest.approx((whole.psnr_db, whole.kl_mean, whole.kl_max), rel=1e-3)


@pytest.mark.parametrize("part", ["embed.weight", "blocks.1.attn.wk.weight"])
def test_a_file_of_another_model_is_rejected(part: str, tmp_path: Path) -> None:
    exported = export_student(storable_student(HALT), tmp_path)
    changed = storable_student(HALT)
    weight = dict(changed.named_parameters())[part]
    weight.data = weight.data.flip(0)
    result = judged(exported, changed, lengths=(64,))["64"]
    assert result.status == "rejected" and "below 70 dB of the eager student" in str(result.error)


def test_halt_flips_are_counted_at_every_step(tmp_path: Path) -> None:
    student = storable_student(HALT)
    exported = export_student(student, tmp_path)
    decisions = student.halt(student.hidden(torch.tensor(some_ids(student.arch, 90).tolist())[None, :70])[0, 63:])
    student.halt_head.bias.data += torch.tensor([100.0, -100.0])  # now always `continue`
    halts = int((decisions.argmax(-1) == 1).sum()) + int(decisions[0].argmax() == 1)  # position 63 is decided by forward and by prefill
    assert judged(exported, student, lengths=(64,))["64"].halt_flips == halts


def test_a_decode_file_that_forgets_its_position_is_rejected(tmp_path: Path) -> None:
    """The defect of the public exporter: right in prefill, wrong from the first decoded token."""
    student = storable_student(HALT)
    exported = export_student(student, tmp_path)

    class Forgetful(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = student

        def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
            hidden = self.student.extend(input_ids, position_ids * 0, k, v)
            return self.student.logits(hidden), self.student.halt(hidden[:, -1]), hidden

    example = (torch.zeros(1, 1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32), torch.zeros(3, 2, 32, 16), torch.zeros(3, 2, 32, 16))
    with pytest.warns(DeprecationWarning):
        torch.jit.trace(Forgetful(), example, check_trace=False).save(str(exported.files[DECODE]))  # type: ignore[no-untyped-call]
    result = judged(exported, student, lengths=(64,))["64"]
    assert result.status == "rejected" and "prefill and decode" in str(result.error) and "forward" not in str(result.error)


def test_a_length_beyond_the_rope_tables_is_rejected_with_the_reason(tmp_path: Path) -> None:
    student = storable_student(HALT, max_position=128)
    results = judged(export_student(student, tmp_path), student)
    assert [result.status for result in results.values()] == ["ok", "ok", "rejected"]
    assert results["256"].error == "length 256 is beyond the model's 128 positions"
    assert results["128"].decode_steps == 0  # the tables end where the prompt does
    assert judged(export_student(student, tmp_path), student, lengths=(512,))["512"].status == "rejected"


def test_a_length_that_raises_is_a_result_and_the_others_go_on(tmp_path: Path) -> None:
    student = storable_student(HALT)
    exported = export_student(student, tmp_path)

    class Fixed(torch.nn.Module):
        """A length baked in: the guide's known issue."""

        def __init__(self) -> None:
            super().__init__()
            self.student = student
            self.register_buffer("places", torch.zeros(1, 64, 48))

        def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
            hidden = self.student.hidden(self.student.embed(input_ids) + self.places)
            return self.student.logits(hidden), self.student.halt(hidden[:, -1])

    with pytest.warns(DeprecationWarning):
        torch.jit.trace(Fixed(), torch.zeros(1, 64, dtype=torch.int32), check_trace=False).save(str(exported.files[PREFILL]))  # type: ignore[no-untyped-call]
    results = judged(exported, student)
    assert [result.status for result in results.values()] == ["rejected"] * 3
    assert str(results["128"].error).startswith("RuntimeError: ") and "64" in str(results["128"].error)


def test_either_file_can_be_judged_alone(tmp_path: Path) -> None:
    student = storable_student(HALT)
    exported = export_student(student, tmp_path)
    alone = judged(exported, student, lengths=(64,), without=DECODE)["64"]
    assert (alone.status, alone.decode_steps) == ("ok", 0) and alone.psnr_db is not None
    alone = judged(exported, student, lengths=(64,), without=PREFILL)["64"]
    assert (alone.status, alone.decode_steps, alone.psnr_db) == ("ok", 6, None)
    assert alone.decode_psnr_db is not None and alone.decode_psnr_db >= 70


def test_not_a_number_is_rejected(tmp_path: Path) -> None:
    student = storable_student(HALT)
    exported = export_student(student, tmp_path)
    student.norm_f.weight.data[0] = math.nan
    assert "not finite" in str(judged(exported, student, lengths=(64,))["64"].error)


def test_prompt_is_text_of_the_checkpoints_tokenizer(tmp_path: Path) -> None:
    contract = write_checkpoint(tmp_path)
    data = tokenizer_json()
    (tmp_path / TOKENIZER).write_bytes(data)
    info = info_of(data)
    ids = shapes.prompt_ids(tmp_path, contract.model_copy(update={"tokenizer": info}))
    assert len(ids) > 1000 and max(ids) < info.vocab_size
    begun = shapes.prompt_ids(tmp_path, contract.model_copy(update={"tokenizer": info.model_copy(update={"add_bos": True})}))
    assert begun == [info.bos_id, *ids]
    assert sorted(shapes.prompt_ids(tmp_path, describe(tmp_path).model_copy(update={"tokenizer": None}))) == [0, 1, 2]
