"""The figures of the reliability tests, printed at the end of a run, and which files took its time.

Here: adding up what tests gave to the fixture `score`, and the seconds of each file. Figures travel in the tests' reports, so those of pytest-xdist's
workers add up as well; for the same reason this is a plugin of tests/conftest.py: the process that prints does not load reliability/conftest.py.
"""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
from reliability import namespaces

HERE = {"namespaces": namespaces.available, "strace": lambda: shutil.which("strace") is not None}
WORTH_TELLING_S, LISTED = 60, 40
KINDS = {"kills": "kills survived", "flips": "flips found", "faults": "faults handled", "power loss": "power-loss states"}


class Scoreboard:
    """Sums over the reports of one run."""

    def __init__(self) -> None:
        self.good: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid.split("::")[0]] += report.duration
        if report.when != "call":
            return
        for name, value in report.user_properties:
            if name == "score":
                kind, good, total = value
                self.good[kind] += good
                self.total[kind] += total

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        whole = sum(self.seconds.values())
        if whole > WORTH_TELLING_S:
            reliability = sum(seconds for file, seconds in self.seconds.items() if "reliability/" in file)
            terminalreporter.write_sep("-", f"files: {whole:.0f} s, reliability {reliability:.0f} s")
            for file, seconds in self.seconds.most_common(LISTED):
                terminalreporter.write_line(f"{seconds:7.1f} s  {file}")
        if not self.total:
            return
        for what in [name for name, there in HERE.items() if not there()]:
            terminalreporter.write_line(f"left out on this machine: what needs {what}")
        terminalreporter.write_line(", ".join(f"{KINDS[kind]} {self.good[kind]:,} of {self.total[kind]:,}" for kind in KINDS if self.total[kind]))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Scoreboard(), "reliability-scoreboard")
