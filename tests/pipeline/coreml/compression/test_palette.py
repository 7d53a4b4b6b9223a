"""Palettes are those that coremltools finds where it searches exactly: the same tables, the same indices, the same file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.coreml.compression.palette import palette

pytestmark = pytest.mark.export
Bits = Literal[4, 6, 8]
SHAPES = {"first": (48, 640), "second": (16, 640)}


@functools.cache
def weights() -> dict[str, NDArray[np.float16]]:
    """Groups of 16 rows have 10,240 numbers: from 10,000 on coremltools searches exactly."""
    source = np.random.default_rng(0)
    return {name: source.normal(0, 0.05, shape).astype(np.float16) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two linear layers beside each other."""
    from pipeline.coreml.messages import collected, load_converter
    from pipeline.coreml.normal import normalise

    ct, _ = load_converter()
    path = tmp_path_factory.mktemp("palette") / "layers.mlpackage"
    with collected():
        from coremltools.converters.mil import Builder as mb
        from coremltools.converters.mil.mil import types

        @mb.program(input_specs=[mb.TensorSpec((1, 640), types.fp16)], opset_version=ct.target.iOS18)  # type: ignore[untyped-decorator]
        def layers(x: Any) -> Any:
            return tuple(mb.linear(x=x, weight=value, bias=np.zeros(len(value), np.float16), name=name) for name, value in weights().items())

        ct.convert(layers, minimum_deployment_target=ct.target.iOS18, skip_model_load=True).save(str(path))
    normalise(path)
    return path


@pytest.mark.parametrize(("bits", "group"), [(4, 16), (6, 16), (8, 0)])
def test_the_weight_file_is_that_of_coremltools_byte_for_byte(package: Path, tmp_path: Path, bits: Bits, group: int) -> None:
    from fakes.by_coremltools import compressed

    from pipeline.coreml.compression.rewrite import digest_of, rewrite, weights_of
    from pipeline.coreml.merge import WEIGHTS

    found = weights_of(package, {digest_of(values): name for name, values in weights().items()})
    assert [weight.name for weight in found] == list(SHAPES)
    rewrite(package, tmp_path / "ours.mlpackage", lambda weight: palette(weight.values, bits, group), found, f"palette{bits}")
    granularity = {"granularity": "per_grouped_channel", "group_size": group} if group else {"granularity": "per_tensor"}
    theirs = compressed(package, tmp_path / "theirs.mlpackage", "palette", mode="kmeans", nbits=bits, **granularity)
    assert (tmp_path / "ours.mlpackage" / WEIGHTS).read_bytes() == (theirs / WEIGHTS).read_bytes()


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_every_number_becomes_the_nearest_entry_of_its_table(bits: Bits) -> None:
    """Small groups too, for which coremltools needs another library."""
    values = weights()["first"][:32, :64]
    found = palette(values, bits, 16).values()
    for rows in (slice(0, 16), slice(16, 32)):
        table = np.unique(found[rows]).astype(np.float32)
        assert len(table) <= 1 << bits
        wide = values[rows].astype(np.float32)
        # entries are rounded to fp16 after the search, below 0.25 by at most 2^-14
        assert (np.abs(wide - found[rows]) <= np.abs(wide[..., None] - table).min(-1) + 2.0**-13).all()


def test_few_values_are_kept_exactly() -> None:
    values = np.random.default_rng(0).choice(np.array([-1, 0, 0.5], np.float16), (16, 64))
    assert np.array_equal(palette(values, 4, 0).values(), values)


def test_a_group_that_does_not_divide_the_rows_gives_one_table() -> None:
    values = weights()["first"][:30, :64]
    whole = palette(values, 4, 0)
    assert palette(values, 4, 16) == whole
    assert whole.label == "palette4" and whole.inputs["lut"].shape == (1, 1, 16, 1)
