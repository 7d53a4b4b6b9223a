"""Tiny students as exported files with their signatures, without the stage around them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from interlock.contracts.export import DECODE, PREFILL, Signature
from pipeline.export import torchscript
from runtime.student.model import Student


@dataclass(frozen=True)
class Exported:
    """Both files of a student, by artifact name."""

    student: Student
    files: dict[str, Path]
    signatures: dict[str, Signature]


def storable(student: Student) -> Student:
    """The student with weights that fp16 can hold, which is what the files store: only the computation can differ then."""
    for parameter in student.parameters():
        parameter.data = parameter.data.half().float()
    return student


def export_student(student: Student, directory: Path, *, latent: bool = False) -> Exported:
    files = {name: directory / name for name in (PREFILL, DECODE)}
    for name, path in files.items():
        torchscript.save(name, student, path, latent=latent)
    return Exported(student, files, {name: _signature(student, name, path) for name, path in files.items()})


def _signature(student: Student, name: str, path: Path) -> Signature:
    arch = student.arch
    return Signature(
        artifact=name,
        mode="prefill" if name == PREFILL else "decode",
        methods=torchscript.methods(path, arch),
        enumerated_T=(64, 128),
        use_halt_head=student.heads.use_halt_head,
        n_layers=arch.n_layers,
        n_kv_heads=arch.n_kv_heads,
        d_head=arch.d_head,
    )
