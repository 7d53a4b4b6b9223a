"""`python -m pipeline.run_distill`: the verb `train` in this very interpreter."""

import sys

from pipeline import cli

if __name__ == "__main__":
    sys.exit(cli.main(["train", *sys.argv[1:]], launch=False))
