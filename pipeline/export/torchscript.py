"""TorchScript files: traced in fp32, stored in fp16, the same bytes on every machine, and asked afterwards what they take and return.

Here: tracing, saving, signatures. Not here: what is traced (forms.py), loading (runtime/backends), whether the values are right (shapes.py).
"""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from interlock.contracts.checkpoint import Arch
from interlock.contracts.export import LATENT, PREFILL, Dtype, Method, TensorSpec
from interlock.errors import StageFailed
from pipeline.export.forms import DecodeForm, PrefillForm
from runtime.backends.torchscript_file import load_torchscript
from runtime.student.model import Student

# Tracing runs the model once. The graph keeps no trace of these sizes (shapes.py proves it on the saved file), so they are small;
# they are not 1, which tracing may take for a dimension to broadcast.
TRACE_TOKENS, TRACE_SLOTS = 5, 32

# Two lengths and cache lengths, all different from one another and from those of the trace: what changes with them is `T` or `C`.
_PROBES = ((3, 48), (7, 64))
_DTYPES: dict[torch.dtype, Dtype] = {torch.int32: "int32", torch.float16: "float16", torch.float32: "float32"}


def save(artifact: str, student: Student, path: Path, *, latent: bool = False) -> None:
    """Write `model_prefill_fp16.pt` (`forward` and `prefill` of PrefillForm) or `model_decode_fp16.pt` (`forward` of DecodeForm) to `path`.

    latent: whether the decode file also has `latent`, for a student that was trained with latent slots. Raises StageFailed if a weight does not fit
    fp16.
    """
    form, names = (PrefillForm(student), ("forward", "prefill")) if artifact == PREFILL else (DecodeForm(student), ("forward", LATENT)[: 1 + latent])
    tokens = TRACE_TOKENS if artifact == PREFILL else 1
    traced_on = {name: tuple(_example(student.arch, tokens, TRACE_SLOTS)[given] for given in _parameters(form, name)) for name in names}
    _write(form, traced_on, path)


def methods(path: Path, arch: Arch) -> dict[str, Method]:
    """What a saved file takes and returns: names from its schema, shapes and dtypes from running each method at two lengths and cache lengths.

    Loads the file: it must be one that we wrote. A dimension that follows the length is `T`, one that follows the cache is `C`.
    """
    module = load_torchscript(path)
    return {name: _method(module, name, arch) for name in ("forward", "prefill", LATENT) if hasattr(module, name)}


def caches(arch: Arch, slots: int) -> tuple[Tensor, Tensor]:
    """Empty key and value caches, each [L, H_kv, slots, D] fp32 zeros."""
    shape = (arch.n_layers, arch.n_kv_heads, slots, arch.d_head)
    return torch.zeros(shape), torch.zeros(shape)


def _example(arch: Arch, tokens: int, slots: int) -> dict[str, Tensor]:
    """Every input that a method may have, by name."""
    k_cache, v_cache = caches(arch, slots)
    return {
        "input_ids": torch.zeros(1, tokens, dtype=torch.int32),
        "inputs_embeds": torch.zeros(1, tokens, arch.d_model),
        "position_ids": torch.arange(tokens, dtype=torch.int32),
        "last_index": torch.tensor([tokens - 1], dtype=torch.int32),
        "k_cache": k_cache,
        "v_cache": v_cache,
    }


def _parameters(form: nn.Module, method: str) -> list[str]:
    return list(inspect.signature(getattr(form, method)).parameters)


def _write(form: nn.Module, methods: dict[str, tuple[Tensor, ...]], path: Path) -> None:
    with warnings.catch_warnings():
        # torch marks TorchScript as deprecated; it is the form that the guide names and that the converter reads best.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit.*")
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
        with torch.no_grad():
            # fp32 caches: with fp16 ones the trace would round keys to fp16 even where the host's cache is fp32.
            traced = torch.jit.trace_module(form.eval(), methods, check_trace=False)  # type: ignore[no-untyped-call]
        buffer = io.BytesIO()
        with _parameters_in_fp16(form):
            torch.jit.save(traced, buffer)
    _without_source_locations(buffer, path)


@contextlib.contextmanager
def _parameters_in_fp16(module: nn.Module) -> Iterator[None]:
    """Parameters are fp16 inside the block and untouched after it; buffers (the rope tables) keep fp32. A tied weight is still one tensor."""
    originals = {name: parameter.data for name, parameter in module.named_parameters()}
    largest = torch.finfo(torch.float16).max
    too_large = [name for name, weight in originals.items() if not weight.abs().amax() <= largest]
    if too_large:
        problem = f"`{too_large[0].removeprefix('student.')}` holds values beyond {largest:.0f}, which fp16 cannot store"
        raise StageFailed(problem, remedy="train with weight decay or clip this weight: the exported files and the package store fp16")
    try:
        for parameter in module.parameters():
            parameter.data = parameter.data.half()
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.data = originals[name]


def _without_source_locations(archive: io.BytesIO, path: Path) -> None:
    """Copy a TorchScript archive without its `.debug_pkl` records: they hold this machine's paths and source lines, and nothing needs them."""
    archive.seek(0)
    reader = torch._C.PyTorchFileReader(archive)
    writer = torch._C.PyTorchFileWriter(str(path))
    # The format version decides how old operators are read; a writer starts at the oldest.
    writer.set_min_version(int(reader.get_record("version")))
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in ("version", ".data/serialization_id", "byteorder"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()


def _method(module: torch.jit.ScriptModule, name: str, arch: Arch) -> Method:
    method = getattr(module, name)
    names = [argument.name for argument in method.schema.arguments if argument.name != "self"]
    # A decode step is the only method that has positions but no choice among them.
    single = "position_ids" in names and "last_index" not in names
    runs = []
    for tokens, slots in _PROBES:
        example = _example(arch, 1 if single else tokens, slots)
        with torch.inference_mode():
            given = [example[name] for name in names]
            runs.append((given, method(*given)))
    (given, returned), (given_again, returned_again) = runs
    inputs = (_spec(*tensor) for tensor in zip(names, given, given_again, strict=True))
    outputs = (_spec(*tensor) for tensor in zip(_output_names(returned), returned, returned_again, strict=True))
    return Method(inputs=tuple(inputs), outputs=tuple(outputs))


def _output_names(outputs: tuple[Tensor, ...]) -> list[str]:
    """logits come first; the halt decision is the one output with two dimensions; what is left is the hidden state."""
    return ["logits", *("halt_logits" if output.dim() == 2 else "hidden" for output in outputs[1:])]


def _spec(name: str, first: Tensor, second: Tensor) -> TensorSpec:
    shape = tuple(_dimension(*sizes) for sizes in zip(first.shape, second.shape, strict=True))
    return TensorSpec(name=name, dtype=_DTYPES[first.dtype], shape=shape)


def _dimension(first: int, second: int) -> int | Literal["T", "C"]:
    if first == second:
        return first
    return "T" if first == _PROBES[0][0] else "C"
