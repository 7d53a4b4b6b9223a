"""Asking items in a process that is killed, with an oracle in the model's place."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from eval.answers import Answered
from eval.items import Item
from eval.running import ask_here
from interlock import journal
from interlock.voice import SilentVoice

RUN = "7" * 64


def items(count: int) -> list[Item]:
    return [Item(f"i{number:03}", f"prompt {number}", f"answer {number}") for number in range(count)]


def oracle(item: Item) -> dict[str, Answered]:
    return {"text": Answered(item.answer, "eos", 1 + len(item.answer))}


def ask_until_killed(kept: Path, log: Path, count: int, after_s: float) -> None:
    """Ask what is left, noting each question in `log` before and after; a timer kills this process after so long."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))

    def ask(item: Item) -> dict[str, Answered]:
        _note(log, f"asked {item.id}")
        time.sleep(0.002)
        return oracle(item)

    with journal.opened(kept) as opened, SilentVoice().task("") as task:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        for item in items(count):
            if item.digest not in opened:
                ask_here([item], ask, RUN, opened, task)
                _note(log, f"kept {item.id}")
        signal.setitimer(signal.ITIMER_REAL, 0)


def _note(log: Path, line: str) -> None:
    with log.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())
