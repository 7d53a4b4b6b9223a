"""The probe tells a working conversion from a wrong one, from a crash and from a hang."""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from pipeline.compat.cases import BY_NAME
from pipeline.compat.results import Result
from pipeline.coreml.messages import collected, load_converter

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def converter() -> None:
    """coremltools and the ways of converting are imported: what they warn of is no matter of these tests."""
    load_converter()
    with collected():
        importlib.import_module("pipeline.compat.conversions")


@pytest.fixture(scope="module")
def sound(converter: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a sound conversion."""
    from pipeline.compat.conversions import trace

    package = tmp_path_factory.mktemp("sound") / "model.mlpackage"
    with collected():
        trace(package)
    return package


def verdict(package: Path, name: str = "trace_fixed") -> Result:
    from pipeline.compat.conversions import WAYS
    from pipeline.compat.judge import judged

    return judged(BY_NAME[name], package, WAYS[name].trial)


def test_a_sound_package_is_ok(sound: Path) -> None:
    found = verdict(sound)
    assert found.status == "ok" and found.db is not None and found.db > 65 and found.operations["linear"] == 16


@pytest.mark.usefixtures("converter")
def test_a_conversion_of_another_computation_is_wrong_though_it_raises_nothing(tmp_path: Path) -> None:
    import torch

    from pipeline.compat import conversions
    from pipeline.compat.decoder import Prefill

    class Blind(Prefill):
        """Forgets the order of its tokens: the rotation of every position is that of the first."""

        def __init__(self) -> None:
            super().__init__()
            self.cos, self.sin = torch.ones_like(self.cos), torch.zeros_like(self.sin)

    package = tmp_path / "model.mlpackage"
    with collected():
        program = torch.jit.trace(Blind(), conversions.examples(Prefill))  # type: ignore[no-untyped-call]
        conversions.convert(program, Prefill, package, inputs=conversions.inputs(Prefill))
    found = verdict(package)
    assert found.status == "wrong" and "dB, expected were at least 55" in found.note and found.operations


def test_a_package_with_one_changed_bit_of_one_weight_is_wrong(sound: Path, tmp_path: Path) -> None:
    import shutil

    package = tmp_path / "model.mlpackage"
    shutil.copytree(sound, package)
    (weights,) = package.glob("Data/*/weights/weight.bin")
    data = bytearray(weights.read_bytes())
    data[len(data) // 2 | 1] ^= 0x40  # the highest bit of an fp16 exponent
    weights.write_bytes(data)
    assert verdict(package).status == "wrong"


def test_a_package_that_does_not_run_as_the_case_wants_is_wrong(sound: Path) -> None:
    found = verdict(sound, "trace_decode")
    assert found.status == "wrong" and found.note.startswith("does not run: ")


@pytest.mark.usefixtures("converter")
def test_numbers_that_are_none_and_shapes_that_differ_are_wrong() -> None:
    import math

    import torch

    from pipeline.compat.judge import least

    one = torch.ones(4)
    assert least([("a", one, one), ("b", one, one * math.nan)]) == (-math.inf, "b")
    assert least([("a", one, torch.ones(1, 4))]) == (-math.inf, "a")
    assert least([("a", one, one), ("b", one, one + 0.1)])[1] == "b"


@pytest.mark.usefixtures("converter")
def test_an_error_is_a_result_and_only_the_known_one_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.compat import conversions, judge

    def raises(path: Path) -> None:
        raise ModuleNotFoundError("\n\n  no module of /usr/lib/x at 0x7f00aa00\nmore")

    monkeypatch.setitem(conversions.WAYS, "trace_fixed", conversions.Way(raises, conversions.FIXED))
    monkeypatch.setitem(conversions.WAYS, "trace_stateful_fp32", conversions.Way(raises, conversions.FIXED))
    for name in ("trace_fixed", "trace_stateful_fp32"):
        assert judge.measured(name, tmp_path) == Result("failed", note="ModuleNotFoundError: no module of <place> at <place>")


def crashes(name: str, folder: Path) -> Result:
    faulthandler.disable()  # pytest's own, which would tell of it
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hangs(name: str, folder: Path, note: Path) -> Result:
    child = subprocess.Popen(["sleep", "1000"])
    note.write_text(str(child.pid))
    child.wait()
    raise AssertionError


def works(name: str, folder: Path) -> Result:
    os.write(1, b"words of a library in C")
    return Result("ok", 70.0, {"linear": 1})


def test_a_crash_is_a_result_and_the_next_case_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from pipeline.compat.probe import isolated

    found = isolated(crashes, "trace_fixed", tmp_path)
    assert (found.status, found.note) == ("crashed", "SIGSEGV")
    after = isolated(works, "trace_fixed", tmp_path)
    assert (after.status, after.db, after.operations) == ("ok", 70.0, {"linear": 1}) and after.seconds < 5
    assert capfd.readouterr() == ("", "")


def test_a_hang_ends_with_everything_it_started(tmp_path: Path) -> None:
    from pipeline.compat.probe import isolated

    note, started = tmp_path / "pid", time.monotonic()
    found = isolated(partial(hangs, note=note), "trace_fixed", tmp_path, limit_s=1.0)
    assert (found.status, found.note) == ("hung", "no end within 1 s") and time.monotonic() - started < 10
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and state(int(note.read_text())) not in ("", "Z"):
        time.sleep(0.02)
    assert state(int(note.read_text())) in ("", "Z")


def state(pid: int) -> str:
    """The letter of a process; empty where there is none."""
    said = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return said.strip()[:1]


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.compat.__main__ import main

    assert main(["trace_nothing"]) == 2 and main(["--record", "trace_fixed"]) == 2
    assert "there are trace_fixed, " in capsys.readouterr().err
