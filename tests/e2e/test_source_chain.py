"""A quantised GGUF file through the whole chain: its own blocks arrive in the package, in real processes of both environments."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.gguf_students import write_gguf
from fakes.quantised_checkpoints import kinds_of
from fakes.shell import run
from fakes.students import compressible_student

from interlock.contracts import io, package
from interlock.environments import environment

pytestmark = pytest.mark.e2e


def test_a_gguf_file_becomes_a_package_with_its_own_blocks(tmp_path: Path) -> None:
    kinds = kinds_of(compressible_student())
    write_gguf(tmp_path / "toy.gguf", kinds)
    for name, *words in (
        ("train", "import", f"gguf:{tmp_path / 'toy.gguf'}", "--out", tmp_path / "checkpoint"),
        ("export", "export", "--checkpoint", tmp_path / "checkpoint", "--out", tmp_path / "exported",
         "--enumerated-T", "32", "--primary", "32", "--toy"),
        ("export", "convert", "--in", tmp_path / "exported", "--checkpoint", tmp_path / "checkpoint", "--out", tmp_path / "package",
         "--cache-length", "64", "--compress", "source", "--toy"),
    ):  # fmt: skip
        said = run([str(environment(name).python), "-m", "pipeline.cli", *map(str, words)])
        assert said.code == 0, said.err
    made = io.read_artifact(tmp_path / "package", package.PackageContract)
    assert {name: weight.form for name, weight in made.compression.weights.items()} == {
        name: f"{kind} blocks of 32" for name, kind in sorted(kinds.items())
    }
    assert made.gate.reference == "checkpoint" and all((item.psnr_db or 0) >= made.gate.thresholds.psnr_db for item in made.gate.evidence)
