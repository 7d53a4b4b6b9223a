"""`python -m pipeline.deploy_model`: the verb `deploy` in this very interpreter."""

import sys

from pipeline import cli

if __name__ == "__main__":
    sys.exit(cli.main(["deploy", *sys.argv[1:]], launch=False))
