"""The C under the address and undefined-behaviour sanitizers: no read or write beside a matrix, no overflow, no misaligned access."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from runtime.kernels.build import SOURCE

# The C is the same in both environments.
pytestmark = pytest.mark.train
CHECKS = "-fsanitize=address,undefined,float-cast-overflow"
FLAGS = ("-std=c11", "-pthread", "-O0", "-g", CHECKS, "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror")


def _build(source: Path, into: Path) -> Path:
    made = into / "driver"
    files = [Path(__file__).with_name("sanitized.c"), *sorted(source.glob("*.c"))]
    done = subprocess.run(["cc", *FLAGS, "-I", source, "-o", made, *files, "-lm"], capture_output=True, text=True, check=False)
    if "cannot find" in done.stderr and "san" in done.stderr:
        pytest.skip("this compiler came without sanitizers")
    assert done.returncode == 0, done.stderr
    return made


def _run(driver: Path, seed: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}
    return subprocess.run([driver, str(seed), "100"], capture_output=True, text=True, check=False, env=environment)


def test_random_matrices_stay_inside_their_memory(tmp_path: Path) -> None:
    driver = _build(SOURCE, tmp_path)
    for seed in range(3):
        done = _run(driver, seed)
        assert (done.returncode, done.stderr) == (0, "")
        if platform.machine() == "x86_64" and " avx2 " in Path("/proc/cpuinfo").read_text():
            assert "avx2" in done.stdout


def test_a_planted_read_past_the_end_is_found(tmp_path: Path) -> None:
    """So that silence above means something."""
    planted = tmp_path / "csrc"
    planted.mkdir()
    for path in SOURCE.iterdir():
        (planted / path.name).write_text(path.read_text().replace("k + GROUP <= columns;", "k + GROUP <= columns + 1;"))
    assert (planted / "products.h").read_text() != (SOURCE / "products.h").read_text()
    done = _run(_build(planted, tmp_path), 0)
    assert done.returncode
    assert "ERROR: AddressSanitizer" in done.stderr
