"""The voice: never silent for two seconds, whatever holds the interpreter, and never a way to steer a terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise

from interlock.voice import human, plain


def test_a_library_that_holds_the_interpreter_does_not_silence_it() -> None:
    """usleep called with the interpreter's lock held, as loading a large library does: no thread of ours could speak."""
    script = (
        "import ctypes; from interlock.voice import PlainVoice; voice = PlainVoice()\n"
        "with voice.task('outer'):\n"
        "    with voice.task('hold', 10, 'steps') as task:\n"
        "        task.note('deep'); ctypes.PyDLL(None).usleep(4_500_000)\n"
        "voice.step('done')"
    )
    times, lines = [time.monotonic()], []
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        for line in child.stderr:
            times.append(time.monotonic())
            lines.append(line)
    assert child.returncode == 0
    assert max(later - earlier for earlier, later in pairwise(times)) < 2.5, lines
    assert sum("hold" in line for line in lines) >= 3 and lines[-1] == "done\n"


def test_a_killed_process_leaves_no_pulse_behind() -> None:
    script = "import os; from interlock.voice import PlainVoice\nwith PlainVoice().task('x'): os.kill(os.getpid(), 9)"
    started = time.monotonic()
    child = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, timeout=20, check=False)  # ends when nobody holds its stderr
    assert child.returncode == -9 and time.monotonic() - started < 10


def test_control_characters_are_shown() -> None:
    assert plain("a\x1b[31m\u202eb\x07\n") == "a\\x1b[31m\\u202eb\\x07\n"


def test_amounts_for_people() -> None:
    assert [human(5, "B"), human(12_345_678, "B"), human(7.4, "steps")] == ["5 B", "12.3 MB", "7 steps"]
