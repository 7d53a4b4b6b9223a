"""What a training rounds to is what a converter stores: by coremltools' own function, by ours, and read back from a package, to the bit."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.coreml.compression.linear import linear
from pipeline.coreml.compression.symmetric import Bits, fixed, stored

pytestmark = pytest.mark.export


def weight(rows: int = 66, columns: int = 192) -> torch.Tensor:
    """fp32 numbers that fp16 does not hold, with outliers, rows of zeros, and rows so small that their scale is subnormal."""
    chance = torch.Generator().manual_seed(0)
    made = torch.randn(rows, columns, generator=chance) * 0.05
    made[:: max(1, rows // 3)] *= 20
    made[1], made[2] = 0, made[2] * 1e-3
    made[3], made[4, :32] = made[3] * 1e-5, 0
    return made


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [0, 32, 64])
def test_training_rounds_as_coremltools_stores(bits: Bits, block: int) -> None:
    from pipeline.coreml.messages import load_converter

    load_converter()
    from coremltools.optimize.coreml import _quantization_passes as passes

    exact = weight()
    values = exact.half().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it divides by the scale of a row of zeros
        theirs = passes.linear_quantize_weights.blockwise_compress(values, bits, "LINEAR_SYMMETRIC", True, [1, block])
    scales = np.repeat(theirs.scale, values.shape[1] // theirs.scale.shape[1], axis=1)
    found = stored(exact, bits, block).numpy()
    assert np.array_equal(found, (theirs.data.astype(np.float16) * scales).astype(np.float32))
    assert np.array_equal(found, linear(values, bits, block).values().astype(np.float32))


def test_a_block_that_divides_no_row_is_a_row_here_too() -> None:
    exact = weight(columns=48)
    assert torch.equal(stored(exact, 4, 32), stored(exact, 4, 0)) and not torch.equal(stored(exact, 4, 16), stored(exact, 4, 0))


@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_fixed_is_stored_without_a_change_for_every_scale_of_fp16(bits: Bits) -> None:
    """All positive numbers of fp16 whose greatest product is one too. Stored once is not enough: where 7 · scale was rounded up or down by more than
    half of seven steps, another scale is found for it."""
    top = (1 << (bits - 1)) - 1
    scales = torch.arange(1, 0x7C00, dtype=torch.int16).view(torch.float16).float()
    scales = scales[2 * top * scales < 65504]
    once = (scales[:, None] * torch.arange(-top, top + 1)).half().float()
    twice = stored(once, bits, 0)
    assert torch.equal(stored(twice, bits, 0), twice) and torch.equal(fixed(once, bits, 0), twice)
    others = (twice != once).any(1)
    assert 0.001 < others.float().mean() < 0.15
    # such a scale is another by one step of fp16, 2⁻¹⁰ of it at most, and each product is rounded once before and once after
    assert ((twice - once).abs() <= 2**-9 * once.abs()).all()


def test_a_package_has_the_weights_of_a_student_that_was_trained_so(tmp_path: Path) -> None:
    """Compressed by our writer and by coremltools, decompressed by coremltools."""
    from fakes.by_coremltools import compressed, constants
    from fakes.exported_students import export_student
    from fakes.students import compressible_student

    from pipeline.coreml import functions
    from pipeline.coreml.compression.compress import Request, compress
    from pipeline.coreml.compression.touched import matrices
    from pipeline.training.quantization import quantise, settle
    from pipeline.training.settings import Quantization

    student = compressible_student(n_layers=1)
    quantise(student, Quantization(method="int4"))
    settle(student)
    student.eval().requires_grad_(False)
    exported = export_student(student, tmp_path)
    packages, _ = functions.convert_stateful(exported.files, exported.signatures, functions.plan_functions((32,)), 64, tmp_path, lambda _: None)
    ours, theirs = tmp_path / "ours.mlpackage", tmp_path / "theirs.mlpackage"
    compress(packages["decode"], ours, Request("int4"), student, (), (), lambda _: None)
    compressed(packages["decode"], theirs, "linear", mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=32)
    wanted = sorted(one.data.half().numpy().tobytes() for one in matrices(student).values())
    assert all(torch.equal(one.data.half().float(), one.data) for one in matrices(student).values())
    for package in (ours, theirs):
        assert sorted(one.astype(np.float16).tobytes() for one in constants(package).values()) == wanted
