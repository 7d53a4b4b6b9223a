"""`python -m runtime.inference_production`: the guide's entry to `infer`, in this very interpreter.

`--model` names an exported file of a deployed directory (or the directory); the rest is the verb's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from interlock.command import Session, guarded, parser, words
from interlock.voice import for_terminal
from runtime import infer
from runtime.infer.options import add_request_options


def main(argv: list[str] | None = None) -> int:
    given = words(argv)
    return guarded(lambda: _run(given), json_output="--json" in given)


def _run(given: list[str]) -> int:
    example = 'python -m runtime.inference_production --model models/student/deployed/model_prefill_fp16.pt --prompt "Your prompt here"'
    options = parser("python -m runtime.inference_production", "generate text with a deployed directory", example)
    options.add_argument("--model", type=Path, required=True, help="a deployed directory, or an exported file in it")
    add_request_options(options)
    args = options.parse_args(given)
    session = Session("infer", for_terminal(), tuple(word for word in given if word != "--model"), launch=False)
    session.admit("train")
    fixed = {"source": None, "out": None, "backend": "torchscript", "weights": "fp32", "compute_units": None, "mode": None}
    full = argparse.Namespace(**vars(args) | fixed)
    return infer.run(full, session)


if __name__ == "__main__":
    sys.exit(main())
