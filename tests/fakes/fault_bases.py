"""Sound packages of toy students for faults to be planted into. Converting takes seconds, so a process makes them once. Environment `export` only.

The students are small and odd on purpose: two layers, grouped queries, norm weights that are not 1, a halt head, and as many tokens in the vocabulary
as channels, so that two outputs and several weights have one type and can be exchanged without anything else noticing.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fakes.exported_students import Exported, export_student, storable
from fakes.students import tiny_student

from interlock.contracts.checkpoint import ModelArch
from interlock.contracts.export import PREFILL
from pipeline.coreml import functions, merge
from runtime.mil import open_package
from runtime.mil.compare.weights import hold
from runtime.student.model import RMSNorm, Student

LENGTHS, SLOTS = (8, 16), 32


@dataclass(frozen=True)
class Base:
    """A package that passes its gate. stored: the student with the weights that the package stores, which the gate of a compressed one compares with
    (design.md section 10: the dequantised checkpoint); prompt: what the gate runs it on."""

    name: str
    package: Path
    student: Student
    stored: Student
    prompt: tuple[int, ...] = tuple((at * 37 + 11) % 64 for at in range(29))


BASES = ("untied", "tied", "single", "int8", "table")


@functools.cache
def base(name: str) -> Base:
    """One of BASES: two with shared cache and halt head, the layout of one function for iOS 16, two compressed."""
    folder = _folder(name)
    exported = _exported(tied=name == "tied")
    package = folder / "true.mlpackage"
    if name == "single":
        signature = exported.signatures[PREFILL]
        functions.convert_single(exported.files[PREFILL], signature, LENGTHS, LENGTHS[0], "iOS16", package, lambda text: None)
    else:
        parts = _parts(name == "tied")
        if name in ("int8", "table"):
            parts = {function: _compressed(part, name, folder / part.name) for function, part in parts.items()}
        merge.merge_functions(parts, "decode", package, lambda text: None)
    stored = exported.student
    if name in ("int8", "table"):
        stored = hold(open_package(package), exported.student, ("decode",)).student
        for table, exact in ((stored.rope_cos, exported.student.rope_cos), (stored.rope_sin, exported.student.rope_sin)):
            table.copy_(exact)
    return Base(name, package, exported.student, stored)


@functools.cache
def _exported(tied: bool) -> Exported:
    student = tiny_student(
        ModelArch(use_halt_head=True), d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_head=16, d_ff=96, vocab_size=64, tie_embeddings=tied,
        max_position=64,
    )  # fmt: skip
    source = torch.Generator().manual_seed(3)
    for module in student.modules():
        if isinstance(module, RMSNorm):
            module.weight.data += 0.3 * torch.randn(module.weight.shape, generator=source)
    return export_student(storable(student), _folder(f"exported {tied}"))


@functools.cache
def _parts(tied: bool) -> dict[str, Path]:
    exported = _exported(tied)
    plans = functions.plan_functions(LENGTHS)
    return functions.convert_stateful(exported.files, exported.signatures, plans, SLOTS, _folder(f"parts {tied}"), lambda text: None)[0]


def _compressed(part: Path, how: str, into: Path) -> Path:
    from pipeline.coreml.normal import normalise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct

        oc: Any = ct.optimize.coreml
        model = ct.models.MLModel(str(part), skip_model_load=True)
        if how == "int8":
            config = oc.OptimizationConfig(global_config=oc.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=1000))
            made = oc.linear_quantize_weights(model, config)
        else:
            config = oc.OptimizationConfig(global_config=oc.OpPalettizerConfig(mode="uniform", nbits=8, weight_threshold=1000))
            made = oc.palettize_weights(model, config)
        made.save(str(into))
        shutil.rmtree(made.package_path, ignore_errors=True)
    normalise(into)
    return into


def _folder(name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
