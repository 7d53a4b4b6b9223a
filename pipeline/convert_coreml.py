"""`python -m pipeline.convert_coreml`: the verb `convert` in this very interpreter."""

import sys

from pipeline import cli

if __name__ == "__main__":
    sys.exit(cli.main(["convert", *sys.argv[1:]], launch=False))
