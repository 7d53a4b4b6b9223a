"""What every entry point shares: the parser's error form, the session a verb runs in, errors turned into messages and exit codes.

Here: the shell around a verb. Not here: the table of verbs (pipeline/verbs.py), any verb's options.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from interlock import errors, voice

OURS = ("interlock", "runtime", "eval", "pipeline")


@dataclass(frozen=True)
class Session:
    """How a verb was called: `argv` are its own words; `launch` lets it start work in other interpreters."""

    verb: str
    voice: voice.Voice
    argv: tuple[str, ...]
    launch: bool

    def admit(self, environment: str) -> None:
        """Refuse before any work unless this interpreter is that environment. Raises EnvironmentRefused."""
        from interlock import environments

        environments.admit(environments.environment(environment), self.verb, self.argv)


class Parser(argparse.ArgumentParser):
    """argparse with our error form: one message, what was expected, what to do, exit 2."""

    def error(self, message: str) -> NoReturn:
        raise errors.UsageError(self._near(message), remedy=f"see `{self.prog} --help`")

    def _near(self, message: str) -> str:
        text = f"{message[:1].lower()}{message[1:]}"
        if not message.startswith("unrecognized arguments: "):
            return text
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        from difflib import get_close_matches

        options = [option for action in self._actions for option in action.option_strings]
        near = get_close_matches(unknown, options, 1)
        return f"unknown option `{unknown}`" + (f"; did you mean `{near[0]}`?" if near else "")


def parser(name: str, summary: str, example: str) -> Parser:
    """The parser of one verb; `--json` is every verb's."""
    made = Parser(
        prog=name, description=summary, epilog=f"example:\n  {example}", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="print the report as one JSON document on stdout")
    return made


def guarded(work: Callable[[], int], *, json_output: bool = False) -> int:
    """Run `work`; every mistake of a user becomes one message on stderr (with --json a document on stdout too) and its exit code."""
    try:
        code = _told(work, json_output)
        print(end="", flush=True)  # stdout may be closed, and then be None
        return code
    except BrokenPipeError:
        # The reader of our output went away (`| head`): no mistake of the user, and nothing must be flushed again at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        return 128 + signal.SIGPIPE


def _told(work: Callable[[], int], json_output: bool) -> int:
    try:
        return work()
    except errors.InterlockError as error:
        voice.tell(error)
        if json_output:
            emit(error.as_dict())
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in OURS:
            raise
        refused = errors.EnvironmentRefused(
            f"this interpreter has no package `{error.name}`",
            required="an environment of envs/, with its locked packages",
            running=f"Python {platform.python_version()} ({sys.executable})",
            remedy="run the same by `.venv/bin/interlock`, which `make environments` makes and which starts each stage in its own environment",
        )
        voice.tell(refused)
        if json_output:
            emit(refused.as_dict())
        return refused.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was published; run the same command again to go on\n")
        return errors.INTERRUPTED


def emit(document: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def foreign_words_to_stderr() -> Iterator[None]:
    """While code of other packages runs, whatever it or its libraries print goes to stderr: stdout is one document of ours."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(ours, 1)
        os.close(ours)


@contextlib.contextmanager
def foreign_words_dropped() -> Iterator[None]:
    """While code of other packages runs, whatever it or its libraries print is dropped."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    _flush()
    ours = [(stream, os.dup(stream)) for stream in (1, 2)]
    for stream, _ in ours:
        os.dup2(nowhere, stream)
    try:
        yield
    finally:
        _flush()
        for stream, kept in ours:
            os.dup2(kept, stream)
            os.close(kept)
        os.close(nowhere)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def words(argv: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if argv is None else argv)
