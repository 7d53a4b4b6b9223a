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


def test_long_work_says_so_ever_more_rarely() -> None:
    """With a pulse of a twentieth of a second, so that 0.4 s are short and 4 s are long."""
    script = (
        "import time; from interlock import voice\nvoice.PULSE_S = 0.05\n"
        "with voice.PlainVoice().task('hold'): time.sleep(0.4); voice.sys.stderr.write('early\\n'); voice.sys.stderr.flush(); time.sleep(3.6)"
    )
    child = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, timeout=60, check=True)
    late = child.stderr.split("early\n")[1].splitlines()
    assert 8 <= len(late) <= 30, child.stderr  # 72 with an even pulse; 24 by the rule, fewer on a machine that is held up


def test_a_killed_process_leaves_no_pulse_behind() -> None:
    script = "import os; from interlock.voice import PlainVoice\nwith PlainVoice().task('x'): os.kill(os.getpid(), 9)"
    started = time.monotonic()
    child = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, timeout=20, check=False)  # ends when nobody holds its stderr
    assert child.returncode == -9 and time.monotonic() - started < 10


def test_control_characters_are_shown() -> None:
    assert plain("a\x1b[31m\u202eb\x07\n") == "a\\x1b[31m\\u202eb\\x07\n"


def test_amounts_for_people() -> None:
    assert [human(5, "B"), human(12_345_678, "B"), human(7.4, "steps")] == ["5 B", "12.3 MB", "7 steps"]
