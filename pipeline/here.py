"""Run a verb in this very interpreter or refuse: what launchers start, and what the `python -m pipeline.*` entries hand over to."""

from __future__ import annotations

import sys

from pipeline import cli

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], launch=False))
