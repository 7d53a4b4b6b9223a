"""Opening an exported TorchScript file.

Here: the two ways to open one. Not here: writing such files (pipeline/export/torchscript.py), running them token by token (torchscript.py).
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from interlock.errors import refuse


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """The module of a file written by `interlock export`, on the CPU: parameters widened from fp16 to fp32, buffers as stored, no gradients.

    A TorchScript file is a program. The caller has already compared its sha256 with a contract that it trusts: this function does not.
    Raises ContractError if the file is not a TorchScript archive.
    """
    module = stored_torchscript(path)
    for parameter in module.parameters():
        parameter.data = parameter.data.float()
    return module


def stored_torchscript(path: Path) -> torch.jit.ScriptModule:
    """The same with parameters as stored: to look at, half as large in memory. The same conditions and errors hold."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
        try:
            module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as problem:
            first_line = str(problem).splitlines()[0]
            remedy = "write the file again: interlock export --checkpoint <directory> --out <directory>"
            raise refuse(path, "", expected="a TorchScript archive", found=first_line, remedy=remedy) from problem
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()
