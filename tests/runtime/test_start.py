"""What `interlock infer` imports until its first token: time and memory before it are mostly those of imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.served import write_student

from runtime.kernels import load

pytestmark = pytest.mark.train
# `import torch` takes longer than everything else together, and more memory than a small model's weights; the rest is for what is not asked here.
NEVER = {
    *("torch", "transformers", "coremltools", "sympy", "safetensors", "gguf"),
    *("jinja2", "llguidance", "starlette", "uvicorn", "jsonschema", "rich", "ssl"),
}
SAY = """
import json, sys
from pipeline import cli
assert cli.main(sys.argv[1:]) == 0
json.dump(sorted(name for name in sys.modules if "." not in name), sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("start") / "checkpoint")


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8"])
def test_an_answer_is_begun_without_what_it_does_not_use(folder: Path, weights: str) -> None:
    assert load() is not None, "without kernels torch multiplies"
    words = ("infer", str(folder), "--prompt", "hello", "--max-new-tokens", "2", "--json", "--weights", weights)
    done = subprocess.run([sys.executable, "-c", SAY, *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["prompt_tokens"] > 1
    imported = set(json.loads(done.stderr.splitlines()[-1]))
    assert not NEVER & imported
    assert "numpy" in imported  # so that an empty list would be seen
