"""Verb `stage`: run one stage from its request file. What `interlock build` starts in each environment."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from interlock.command import Session, emit, foreign_words_to_stderr
from interlock.errors import InterlockError
from pipeline.driver import request


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("request", type=Path, help="the request file that the driver wrote")


def run(args: argparse.Namespace, session: Session) -> int:
    try:
        with foreign_words_to_stderr():
            report = request.answer(args.request, session.voice)
    except InterlockError as error:
        emit(error.as_dict())  # the driver tells it, once
        return error.exit_code
    emit(report)
    sys.stderr.flush()
    # All is published and told: taking a tensor library's interpreter apart would cost half a second and change nothing.
    os._exit(0)
