"""What the converter says, collected and told apart: known to be harmless, with the reason, or not known.

Here: loading coremltools in silence, collecting, classifying. Not here: what becomes of a message (the contract records it, the stage tells it).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TextIO

from interlock.contracts.package import ConverterMessage

# Each pattern with why it says nothing about the package (coremltools 9.0, torch 2.13; facts in docs and tests of this folder).
_HARMLESS = (
    (r"Torch version .* has not been tested with coremltools", "every package is compared with the model; the pair is the locked one"),
    (r"Failed to load _ML\w+Proxy", "the Core ML runtime exists on macOS only; converting does not need it"),
    (r"Tuple detected at graph output", "the outputs are named one by one, in this order"),
    (r"Support for converting Torch Script Models is experimental", "the exported file is a saved trace; every package is compared"),
    (r"Torch var [kv]_cache is added again", "one state, read and written by every layer"),
    (r"Saving value type of int64 into a builtin type of int32", "the end of a full slice; shapes and positions are far below 2^31"),
    (r"`torch\.jit\.[a-z_]+` is deprecated", "TorchScript is deprecated in torch and is what coremltools reads best"),
    (r"Function _TORCH_OPS_REGISTRY\.__contains__ is deprecated", "coremltools' own use of its own registry"),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", "coremltools' way of asking torch how the inputs are nested"),
    (r"Conversion of an array with ndim > 0 to a scalar is deprecated", "numpy is locked below the version that removes it"),
)
_PATH = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)*[\w.+-]+")


@functools.cache
def load_converter() -> tuple[ModuleType, tuple[str, ...]]:
    """coremltools, and what it said while it was imported: it logs to stderr unless somebody listens. 3 to 7 s the first time."""
    with collected() as lines:
        converter = importlib.import_module("coremltools")
    return converter, tuple(lines)


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Collect log lines of coremltools and Python warnings as one-line texts, and let none of them reach stderr.

    Two kinds are dropped because their number is chance: ResourceWarnings (coremltools leaves its temporary directories to the garbage collector)
    and remarks on coremltools' own source, which Python makes only where it has no compiled copy yet.
    """
    lines: list[str] = []
    logger, listener = logging.getLogger("coremltools"), _Listener(lines)
    propagated = logger.propagate
    logger.addHandler(listener)
    logger.propagate = False

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
    ) -> None:
        lines.append(f"{category.__name__}: {message}")

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", ResourceWarning)
            warnings.filterwarnings("ignore", message="invalid escape sequence")
            warnings.showwarning = show
            yield lines
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagated


def classified(lines: Iterable[str]) -> tuple[ConverterMessage, ...]:
    """Equal lines counted, machine paths removed, sorted by text, each with the reason why it is harmless, or None."""
    counts = Counter(_plain(line) for line in lines)
    return tuple(ConverterMessage(text=text, count=count, harmless=_reason(text)) for text, count in sorted(counts.items()))


class _Listener(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


def _plain(line: str) -> str:
    return _PATH.sub("<path>", " ".join(line.split()))


def _reason(text: str) -> str | None:
    return next((reason for pattern, reason in _HARMLESS if re.search(pattern, text)), None)
