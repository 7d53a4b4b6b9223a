"""The variants of the kernels that this processor runs."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import pytest

from runtime.kernels.build import compiler
from runtime.kernels.library import variants
from runtime.kernels.products import Kernels

VARIANTS = ["neon", "generic"] if platform.machine() in ("aarch64", "arm64") else ["avx512", "avx2", "generic"]


@pytest.fixture(scope="session")
def runnable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Kernels]]:
    """Compiled once, in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERLOCK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield {kernels.variant: kernels for kernels in variants(compiler())}


@pytest.fixture(scope="session", params=VARIANTS)
def kernels(request: pytest.FixtureRequest, runnable: dict[str, Kernels]) -> Kernels:
    if request.param not in runnable:
        pytest.skip(f"this processor does not run {request.param}")
    return runnable[request.param]
