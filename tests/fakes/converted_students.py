"""A tiny student as packages of one function each. Converting takes seconds, so a session makes them once. Environment `export` only."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fakes.exported_students import Exported, export_student, storable
from fakes.students import compressible_student, tiny_student

from interlock.contracts.checkpoint import ModelArch
from pipeline.coreml import functions
from pipeline.coreml.merge import merge_functions

LENGTHS, SLOTS = (32, 64), 96


@dataclass(frozen=True)
class Converted:
    exported: Exported
    packages: dict[str, Path]
    said: tuple[str, ...]
    notes: tuple[str, ...]


def converted(*, halt: bool = True) -> Converted:
    """Two layers, tied head, odd widths: `prefill_32`, `prefill_64` and `decode` in normal form."""
    return _converted(halt)


@functools.cache
def _converted(halt: bool) -> Converted:
    folder = Path(tempfile.mkdtemp(prefix="converted-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    student = storable(tiny_student(ModelArch(use_halt_head=halt), n_layers=2, tie_embeddings=True, max_position=128))
    exported = export_student(student, folder)
    notes: list[str] = []
    packages, said = functions.convert_stateful(exported.files, exported.signatures, functions.plan_functions(LENGTHS), SLOTS, folder, notes.append)
    return Converted(exported, packages, said, tuple(notes))


@functools.cache
def compressible() -> Converted:
    """The student of that name as `prefill_32` and `decode` in normal form."""
    folder = Path(tempfile.mkdtemp(prefix="compressible-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    exported = export_student(storable(compressible_student()), folder)
    packages, said = functions.convert_stateful(exported.files, exported.signatures, functions.plan_functions((32,)), SLOTS, folder, lambda _: None)
    return Converted(exported, packages, said, ())


@functools.cache
def merged_compressible() -> Path:
    """Both functions in one package."""
    packages = compressible().packages
    into = packages["decode"].parent / "merged.mlpackage"
    merge_functions(packages, "decode", into, lambda _: None)
    return into
