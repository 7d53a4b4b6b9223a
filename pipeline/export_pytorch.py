"""`python -m pipeline.export_pytorch`: the verb `export` in this very interpreter."""

import sys

from pipeline import cli

if __name__ == "__main__":
    sys.exit(cli.main(["export", *sys.argv[1:]], launch=False))
