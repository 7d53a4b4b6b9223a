"""`python -m pipeline.run_distill`: the verb `train` in this very interpreter, or one of the processes that `torchrun` starts for it."""

import sys
from collections.abc import Sequence

from interlock.command import guarded
from pipeline import cli
from pipeline.training import torchrun


def main() -> int:
    """Returns the exit code."""
    here = torchrun.place()
    return verb(sys.argv[1:]) if here is None else torchrun.run(here, verb, sys.argv[1:])


def verb(words: Sequence[str]) -> int:
    """`interlock train` with these words."""
    return cli.main(["train", *words], launch=False)


if __name__ == "__main__":
    sys.exit(guarded(main, json_output="--json" in sys.argv))
