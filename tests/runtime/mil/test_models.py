"""Whole packages of many kinds, converted with plain coremltools, against the torch modules they were made from.

Error model. A converted fp16 program stores every value in 11 bits: relative rounding 2^-11 per value. Errors of n roundings add like a random
walk, so that a model whose longest path has n operations is expected near 20·log10(2^11/√n) below its peak: 56 dB for n = 16, 50 dB for n = 64.
BOUND_DB leaves a factor of two. fp32 mode shares the rounding of weights and inputs only and must not be worse. Programs
converted in fp32 differ by the order of sums alone: more than 100 dB.
"""

from __future__ import annotations

import pytest
from fakes.programs import opened
from fakes.torch_models import case, described, lowest_psnr, traced

# the converter and the tracer warn about versions and deprecations; what they say is recorded by the stages, not here
pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore")]
BOUND_DB, EXACT_DB = 44.0, 100.0
KINDS = [
    "convolutions", "recurrent", "encoder", "detection", "super resolution", "speech", "vision transformer", "tabular", "spatial transformer"
]  # fmt: skip


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18"])
@pytest.mark.parametrize("name", KINDS)
def test_converted_models_compute_what_torch_computes(name: str, target: str) -> None:
    module, inputs = case(name)
    program = opened(traced(module, inputs), inputs=described(inputs), target=target)
    assert lowest_psnr(program, "fp32", module, inputs) > BOUND_DB
    assert lowest_psnr(program, "fp16", module, inputs) > BOUND_DB


@pytest.mark.parametrize("name", KINDS)
def test_models_converted_in_fp32_differ_by_the_order_of_sums(name: str) -> None:
    import coremltools as ct

    module, inputs = case(name)
    program = opened(traced(module, inputs), inputs=described(inputs), compute_precision=ct.precision.FLOAT32)
    assert lowest_psnr(program, "fp32", module, inputs) > EXACT_DB
