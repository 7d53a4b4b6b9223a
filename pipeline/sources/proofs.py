"""What all readers of foreign files prove in the same way: a mapped regular file, a valid architecture, matching shapes, finite numbers.

Here: the checks that do not depend on a format. Not here: any format (one module each), strict JSON and digests (interlock/contracts/io.py).
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from interlock.contracts.checkpoint import Arch
from interlock.errors import ContractError, Violation, refuse

if TYPE_CHECKING:
    import torch
    from pydantic_core import ErrorDetails

REMEDY = "get the file again from its publisher and compare its sha256; a file that its own header contradicts is not used"


def shown(value: object) -> str:
    """A value from a foreign file, short and safe to print: containers by their type only, text escaped and cut."""
    # A short slice first: `ascii` of a gigabyte string, or an integer of a million digits, would be the attack itself.
    if isinstance(value, (str, bytes)):
        return f"`{ascii(value[:80])[:80]}`"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge integer"
    return f"`{value}`" if value is None or isinstance(value, (int, float)) else f"a {type(value).__name__}"


def map_file(path: Path) -> mmap.mmap:
    """The file's bytes, mapped read-only: nothing is copied before it is checked. Raises ContractError for anything but a non-empty regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO must not block
    except (OSError, ValueError) as error:
        found = (getattr(error, "strerror", None) or str(error)).lower()
        raise refuse(path, "", expected="a regular file", found=found, remedy="name a file that exists and that you may read") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise refuse(path, "", expected="a regular file", found="a directory, device or pipe", remedy="name the file itself")
        if status.st_size == 0:
            raise refuse(path, "", expected="a model file", found="an empty file", remedy=REMEDY)
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


def build_arch(file: object, fields: Mapping[str, object], places: Mapping[str, str], *, remedy: str) -> Arch:
    """`fields` as an Arch. `places` says where in the file each field was read. Raises ContractError with all violations; a None field is missing."""
    try:
        return Arch.model_validate({name: value for name, value in fields.items() if value is not None}, strict=True)
    except ValidationError as error:
        raise ContractError(*(_violation(file, places, item) for item in error.errors()), remedy=remedy) from None


def _violation(file: object, places: Mapping[str, str], item: ErrorDetails) -> Violation:
    name = str(item["loc"][0]) if item["loc"] else ""
    if item["type"] == "missing":
        return Violation(str(file), places.get(name, name), f"a value for `{name}`", "nothing")
    return Violation(str(file), places.get(name, name), item["msg"], shown(item["input"]))


def check_shapes(file: object, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], *, remedy: str) -> None:
    """Raises ContractError naming every tensor that is missing, unknown or of another shape."""
    violations = [
        Violation(str(file), name, f"shape {list(shape)}", f"shape {list(found[name])}" if name in found else "no such tensor")
        for name, shape in expected.items()
        if found.get(name) != shape
    ]
    odd = [name for name in found if name not in expected]
    violations += [Violation(str(file), shown(name), "no such tensor in this architecture", f"shape {list(found[name])}") for name in odd]
    if violations:
        raise ContractError(*violations, remedy=remedy)


def proven(file: object, name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """`tensor` as contiguous fp32 of `shape`. Raises ContractError for NaN or infinity: no student runs on them, and each gate would blame itself."""
    result = tensor.float().reshape(shape).contiguous()
    if not bool(result.isfinite().all()):
        remedy = "the checkpoint is broken or diverged: choose an earlier one"
        raise refuse(file, name, expected="finite numbers", found="NaN or infinity", remedy=remedy)
    return result
