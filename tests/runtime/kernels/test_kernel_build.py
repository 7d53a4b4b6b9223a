"""The compiled kernels come from a private cache or are built, and are absent with a reason rather than wrong: real compilers and processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.errors import UsageError
from runtime.kernels import build
from runtime.kernels.build import DIGEST, OBJECT, SOURCE
from runtime.kernels.library import CHOICES, choose, variants
from runtime.kernels.proof import mismatch
from runtime.kernels.proof_step import prompt_mismatch, step_mismatch

pytestmark = pytest.mark.train  # what is tried does not depend on the interpreter

LOAD = "from runtime.kernels import load, why; print(load() is not None, why())"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a compiler that notes each compilation in `calls` and makes no effort (a tenth of the time)."""
    script = tmp_path / "cc"
    script.write_text(f'#!/bin/sh\ncase "$*" in *--version*) ;; *) echo compiled >> {tmp_path}/calls ;; esac\nexec cc "$@" -O0\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("INTERLOCK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("INTERLOCK_KERNELS", raising=False)
    return tmp_path / "cache"


def _compilations(cache: Path) -> int:
    calls = cache.parent / "calls"
    return len(calls.read_text().splitlines()) if calls.exists() else 0


def _folder(cache: Path) -> Path:
    (folder,) = (cache / "kernels").iterdir()
    return folder


def _reason() -> str:
    kernels, told = choose()
    assert kernels is None
    return told


def test_the_second_use_does_not_compile(cache: Path) -> None:
    first, told = choose()
    second, _ = choose()
    assert first is not None and second is not None
    assert first.variant == second.variant
    assert first.variant in told
    assert _compilations(cache) == 1


@pytest.mark.parametrize("how", ["cut", "flipped", "no digest", "gone"])
def test_a_broken_cache_file_is_built_anew(cache: Path, how: str) -> None:
    assert choose()[0]
    made = _folder(cache) / OBJECT
    whole = made.read_bytes()
    changed = made.with_name(DIGEST) if how == "no digest" else made
    changed.unlink()  # and never written in place: this process runs the old one
    if how in ("cut", "flipped"):
        made.write_bytes(whole[: len(whole) // 3] if how == "cut" else whole[:4096] + bytes([whole[4096] ^ 1]) + whole[4097:])
    assert choose()[0]
    assert _compilations(cache) == 2
    assert made.read_bytes() == whole


def test_processes_that_start_together_all_get_kernels(cache: Path) -> None:
    started = [subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0] for process in started]
    assert all(line.startswith("True") for line in told), told
    assert [path.name for path in (cache / "kernels").iterdir()] == [_folder(cache).name]  # and no work is left behind


def test_a_change_of_the_source_is_another_build(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose()[0]
    monkeypatch.setattr(build, "SOURCE", _copy(cache.parent, "kernels.h", "AHEAD = 16384", "AHEAD = 8192"))
    assert choose()[0]
    assert len(list((cache / "kernels").iterdir())) == 2


def test_code_that_others_could_write_is_not_loaded(cache: Path) -> None:
    assert choose()[0]
    for path in (_folder(cache) / OBJECT, _folder(cache), cache / "kernels"):
        mode = path.stat().st_mode
        path.chmod(mode | 0o020)
        assert "does not belong to this user alone" in _reason()
        path.chmod(mode)
    assert choose()[0]


def test_a_linked_cache_folder_is_not_followed(cache: Path) -> None:
    assert choose()[0]
    folder = _folder(cache)
    folder.rename(cache / "elsewhere")
    folder.symlink_to(cache / "elsewhere")
    assert "does not belong to this user alone" in _reason()


def test_no_compiler_is_a_reason(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    assert "`no-such-compiler` was not found" in _reason()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 3", "failed with status 3"),
        ('case "$*" in *--version*) exit 0 ;; esac; echo "x.c:1: error: no" >&2; exit 1', "x.c:1: error: no"),
        ('while [ "$1" != -o ]; do [ $# -gt 0 ] || exit 0; shift; done; echo not an object > "$2"', "cannot be loaded"),
    ],
)
def test_a_failing_compiler_is_a_reason(cache: Path, script: str, told: str) -> None:
    Path(os.environ["CC"]).write_text(f"#!/bin/sh\n{script}\n")
    assert told in _reason()
    assert not list(cache.rglob("*.partial-*"))


def test_a_cache_that_cannot_be_made_is_a_reason(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache.parent / "file").write_text("")
    monkeypatch.setenv("INTERLOCK_CACHE_DIR", str(cache.parent / "file" / "cache"))
    assert "cache" in _reason()


def test_kernels_can_be_switched_off_or_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_KERNELS", "off")
    assert _reason() == "INTERLOCK_KERNELS is `off`"
    assert _compilations(cache) == 0
    for variant in CHOICES[1:]:
        monkeypatch.setenv("INTERLOCK_KERNELS", variant)
        kernels, told = choose()
        assert (kernels.variant == variant) if kernels else f"does not have `{variant}`" in told
    monkeypatch.setenv("INTERLOCK_KERNELS", "fast")
    with pytest.raises(UsageError, match="`fast`"):
        choose()


# One wrong thing each, in what every variant shares or in one of them.
FAULTS = {
    "products.h": [
        ("columns + k), sum[r][0]);", "columns), sum[r][0]);"),
        ("GROUP * i), sum[r][i % SUMS]", "GROUP * i), sum[r][0]"),
        ("32512 / largest : 0", "32512 / 127 : 0"),
        ("sums[block])", "sums[0])"),
        ("-w->zero * tile->sum", "0"),
        (" + poison;", ";"),
        ("block * w->width + start", "block * TILE + start"),
    ],
    "kernels.h": [("0x1p112f", "0x1p111f")],
    "step.h": [
        ("x[half + i]", "x[half - i]"),
        ("position + 1 - first, size", "position - first, size"),
        ("gate[i] < 0 ? small : 1.0f", "1.0f"),
        ("1.0f / sqrtf((float)size)", "1.0f"),
    ],
    "avx512.c": [("slli_epi32(high, 8)", "slli_epi32(high, 7)"), ("x->low + 16 + 4 * c", "x->low + 4 * c")],
    "avx2.c": [("0xd8", "0xe4"), ("dot4_half(codes + 32, x)", "dot4_half(codes, x)"), ("x->whole + 4 * c", "x->whole")],
    "generic.c": [("(both >> 4)", "(both >> 3)")],
}


def _copy(into: Path, name: str, old: str, new: str) -> Path:
    copy = into / "csrc"
    shutil.copytree(SOURCE, copy)
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    return copy


@pytest.mark.parametrize(("name", "old", "new"), [(name, *fault) for name, faults in FAULTS.items() for fault in faults])
def test_the_proof_refuses_wrong_code(cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str) -> None:
    monkeypatch.setattr(build, "SOURCE", _copy(cache.parent, name, old, new))
    found = {kernels.variant: mismatch(kernels) or step_mismatch(kernels) for kernels in variants(build.compiler())}
    wrong = [variant for variant, problem in found.items() if problem]
    assert wrong == ([variant for variant in found if name in (f"{variant}.c", "products.h", "kernels.h", "step.h")])


# In what is used only where there are matrix units.
PROMPT_FAULTS = {
    "bricks.h": [
        ("to + BRICK, (__m512i)", "to, (__m512i)"),
        ("turned[r % 4][1] + r / 4 * 16", "turned[r % 4][0] + r / 4 * 16"),
    ],
    "prompt_attention.h": [
        ("1.0f / sqrtf((float)size)", "1.0f"),
        ("position + SQUARE - p->first", "SQUARE"),
    ],
}


@pytest.mark.parametrize(("name", "old", "new"), [(name, *fault) for name, faults in PROMPT_FAULTS.items() for fault in faults])
def test_the_proof_refuses_wrong_prompts(cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str) -> None:
    monkeypatch.setattr(build, "SOURCE", _copy(cache.parent, name, old, new))
    best = variants(build.compiler())[0]
    if best.prompt_function is None:
        pytest.skip("this processor has no matrix units")
    assert "differs from numpy's" in (prompt_mismatch(best) or "")
    kernels, told = choose()
    assert kernels is not None and kernels.prompt_function is None and "prompts not on matrix units: a prompt on" in told


def test_a_variant_that_fails_its_proof_gives_way_to_the_next(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = variants(build.compiler())[0].variant
    if best != "avx512":
        pytest.skip("this processor has one variant to choose from")
    monkeypatch.setattr(build, "SOURCE", _copy(cache.parent, "avx512.c", "slli_epi32(high, 8)", "slli_epi32(high, 7)"))
    kernels, told = choose()
    assert kernels is not None
    assert kernels.variant == "avx2"
    assert "avx512 is not used: 4 bits" in told
    monkeypatch.setenv("INTERLOCK_KERNELS", "avx512")
    assert "avx512 is not used" in _reason()
