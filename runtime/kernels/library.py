"""The kernels of this process: chosen by the processor's own flags, proved, or absent with a reason.

Here: what is loaded and why. Not here: how it is compiled (build.py), what is proved (proof.py).
INTERLOCK_KERNELS in the environment: `off`, or the name of one variant (`avx512`, `avx2`, `neon`, `generic`) instead of the best.
`generic` is used only when named: it takes two to six times as long as torch on widened weights, and serves to check the others.
"""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import replace
from typing import Any

from interlock.errors import UsageError
from runtime.kernels.build import Compiler, NoKernels, compiler, shared_object
from runtime.kernels.products import Kernels
from runtime.kernels.proof import mismatch
from runtime.kernels.proof_step import prompt_mismatch, step_mismatch

_pointer, _count = ctypes.c_void_p, ctypes.c_int64
# What each variant exports, in the order of Kernels' fields.
ARGUMENTS = {
    "dense": (_pointer, _pointer, _pointer, _count),
    "blocks": (_pointer, _pointer, _pointer, _count),
    "step": (_pointer, _pointer, _count, _pointer, _pointer, _pointer, ctypes.c_int32, ctypes.c_int32),
}
# What a variant exports beside them where the processor has matrix units.
OF_UNITS = "avx512"
PROMPT = (_pointer, _pointer, _pointer, _pointer, _pointer, ctypes.c_int32)
CHOICES = ("off", "avx512", "avx2", "neon", "generic")


_lock = threading.Lock()
_loaded: list[tuple[Kernels | None, str]] = []


def load() -> Kernels | None:
    """This process's kernels, or None with the reason in `why()`. The first call compiles, if no earlier process did. Raises UsageError."""
    return _once()[0]


def why() -> str:
    """One line: the variant and the compiler, or why there are no kernels. Raises UsageError."""
    return _once()[1]


def _once() -> tuple[Kernels | None, str]:
    with _lock:
        if not _loaded:
            _loaded.append(choose())
        return _loaded[0]


def choose() -> tuple[Kernels | None, str]:
    """What `load()` and `why()` return, decided anew from the environment as it is now. Raises UsageError."""
    wanted = os.environ.get("INTERLOCK_KERNELS", "")
    if wanted and wanted not in CHOICES:
        raise UsageError(f"INTERLOCK_KERNELS is `{wanted}`", remedy=f"set it to one of {', '.join(CHOICES)}, or unset it")
    if wanted == "off":
        return None, "INTERLOCK_KERNELS is `off`"
    try:
        found = compiler()
        return _proved(variants(found), wanted, found)
    except NoKernels as error:
        return None, str(error)


def _proved(candidates: tuple[Kernels, ...], wanted: str, found: Compiler) -> tuple[Kernels, str]:
    """The best variant that computes what numpy computes. Raises NoKernels."""
    names = ", ".join(kernels.variant for kernels in candidates)
    chosen = [kernels for kernels in candidates if kernels.variant == wanted or (not wanted and kernels.variant != "generic")]
    if not chosen:
        fitting = f"`{wanted}`" if wanted else "AVX-512 with VNNI, AVX2 with FMA, or the dot product of Armv8.2"
        raise NoKernels(f"this processor does not have {fitting}; it could run {names}")
    failed: list[str] = []
    for kernels in chosen:
        problem = mismatch(kernels) or step_mismatch(kernels)
        if problem is None:
            proved, prompts = _prompts_proved(kernels)
            return proved, "; ".join([f"{proved.variant}, compiled by {found.version.splitlines()[0]}", *prompts, *failed])
        failed.append(f"{kernels.variant} is not used: {problem}")
    raise NoKernels("; ".join(failed))


def _prompts_proved(kernels: Kernels) -> tuple[Kernels, list[str]]:
    """With its prompt only if that is right, and what to say of it."""
    if kernels.prompt_function is None:
        return kernels, []
    problem = prompt_mismatch(kernels)
    if problem is None:
        return kernels, ["prompts on matrix units"]
    return replace(kernels, prompt_function=None), [f"prompts not on matrix units: {problem}"]


def variants(found: Compiler) -> tuple[Kernels, ...]:
    """Every variant that this processor can run, best first, unproved. Raises NoKernels."""
    path = shared_object(found)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NoKernels(f"the compiled kernels cannot be loaded: {error}") from error
    library.variants.restype = ctypes.c_char_p
    names, has_units = library.variants().decode().split(), bool(library.matrix_units())

    def made(name: str) -> Kernels:
        dense, blocks, step = (_function(library, f"{work}_{name}", types) for work, types in ARGUMENTS.items())
        prompt = _function(library, f"prompt_{name}", PROMPT) if has_units and name == OF_UNITS else None
        return Kernels(name, dense, blocks, step, prompt)

    return tuple(map(made, names))


def _function(library: ctypes.CDLL, name: str, types: tuple[Any, ...]) -> Any:
    function = library[name]
    function.argtypes = types
    function.restype = ctypes.c_int
    return function
