"""Operations against coremltools' own tests of them, whose results are those of Core ML.

The suite is part of the installed package; fakes/published_suite.py runs it with the reference runner. One case of every test function is run here;
`--each 0` in the command below runs all of them (37 000).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.export, pytest.mark.long]
SUITE = "converters/mil/mil/ops/tests"
# Where the published result and the documentation disagree, or the result was written down with fewer digits than it is compared with.
KNOWN = {
    "TestNormalizationLocalResponseNorm::test_builder_to_backend_smoke": "rank 3 as [C, H, W], which neural networks had; documented is [n, C, D]",
    "TestCropResize::test_builder_to_backend_ios17": "7.899 for 7.9",
    "invalid_indices": "expects that results are not equal",
}


def test_operations_equal_what_core_ml_was_tested_for(tmp_path: Path, root: Path) -> None:
    import coremltools

    settings = {"PYMIL_TEST_TARGETS": "mlprogram", "INCLUDE_MIL_FP32_UNIT_TESTS": "1", "RUN_BACKWARD_COMPATIBILITY": "1"}
    paths = os.pathsep.join([str(root), str(root / "tests")])
    options = ["-p", "fakes.published_suite", "-p", "no:cacheprovider", "-q", "-W", "ignore", "--import-mode=importlib", "-c", os.devnull]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), "--each", "1", "--record", str(tmp_path / "record.json")]
    suite = Path(coremltools.__file__).parent / SUITE
    environment = {**os.environ, **settings, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*command, str(suite)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=850)
    assert (tmp_path / "record.json").is_file(), done.stdout[-2000:] + done.stderr[-2000:]
    record = json.loads((tmp_path / "record.json").read_text())
    failed = {name: problem for name, problem in record["failed"].items() if not any(known in name for known in KNOWN)}
    assert failed == {}
    # what was compared, so that a suite that moved or skipped everything is not a pass
    assert record["compared"] >= 400
    assert len(record["operations"]) >= 120
