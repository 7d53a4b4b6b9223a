"""From what a person writes (`package:NAME`, `gguf:FILE`, `hf:DIR`, `pt:FILE`, `random:SEED`, or a path) to a Foreign checkpoint.

Here: the schemes and how a bare path is recognised. Not here: any format (one module each).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

from interlock.errors import UsageError
from pipeline.sources.foreign import Foreign
from pipeline.sources.gguf import open_gguf
from pipeline.sources.huggingface import open_huggingface
from pipeline.sources.package import locate
from pipeline.sources.random_student import open_random
from pipeline.sources.torchfile import open_torch

SCHEMES: dict[str, Callable[[str], Foreign]] = {
    "package": lambda name: open_gguf(locate(name)),
    "gguf": lambda name: open_gguf(_existing(name)),
    "hf": lambda name: open_huggingface(_existing(name)),
    "pt": lambda name: open_torch(_existing(name)),
    "random": open_random,
}
FORMS = "write `package:NAME`, `gguf:FILE`, `hf:DIR`, `pt:FILE` or `random:SEED`"


def open_source(spec: str) -> Foreign:
    """The checkpoint that `spec` names. Raises UsageError for a name that leads nowhere, ContractError for content that is not what it must be."""
    scheme, separator, rest = spec.partition(":")
    if separator and scheme in SCHEMES:
        if not rest:
            raise UsageError(f"`{spec}` names nothing", remedy=FORMS)
        return SCHEMES[scheme](rest)
    if separator and re.fullmatch(r"[A-Za-z_-]{2,20}", scheme) and not Path(spec).exists():
        close = difflib.get_close_matches(scheme.lower(), SCHEMES, n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}:{rest}`?" if close else FORMS
        raise UsageError(f"`{scheme}` is no kind of source", remedy=hint)
    return _recognised(_existing(spec))


def _existing(name: str) -> Path:
    try:
        if name and Path(name).exists():
            return Path(name)
    except (OSError, ValueError):  # a name too long, a NUL byte
        pass
    raise UsageError(f"no file or directory {name[:200]!a}", remedy=FORMS)


def _recognised(path: Path) -> Foreign:
    if path.is_dir():
        return open_huggingface(path)
    magic = b""
    if path.is_file():  # a FIFO or device is not opened to look at it
        with path.open("rb") as file:
            magic = file.read(4)
    if magic == b"GGUF" or path.suffix == ".gguf":
        return open_gguf(path)
    if path.suffix == ".safetensors":
        raise UsageError(f"`{path.name}` has no architecture beside its tensors", remedy="name its directory, with config.json in it: `hf:DIR`")
    if magic == b"PK\x03\x04" or path.suffix in (".pt", ".pth", ".ckpt", ".bin"):
        return open_torch(path)
    raise UsageError(f"`{path.name}` is of no known kind", remedy=FORMS)
