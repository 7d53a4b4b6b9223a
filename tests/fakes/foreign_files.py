"""Small foreign checkpoints, sound ones and the parts to break them: bytes written by hand, so that each field can lie."""

from __future__ import annotations

import itertools
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from interlock.contracts.checkpoint import Arch, ModelArch

TINY = Arch(
    d_model=32,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    d_head=8,
    d_ff=64,
    vocab_size=48,
    rope_theta=10000.0,
    norm_eps=1e-6,
    tie_embeddings=False,
    max_position=64,
)
TOY_ARCH = {
    "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_head": 8, "d_ff": 64, "vocab_size": 48, "rope_theta": 10000.0,
    "rope_scaling": "none", "max_seq_len": 64,
}  # fmt: skip


def tensors(arch: Arch = TINY, heads: ModelArch | None = None) -> dict[str, torch.Tensor]:
    """Random fp32 weights by our names."""
    source = torch.Generator().manual_seed(5)
    return {name: torch.randn(shape, generator=source) for name, shape in arch.weight_shapes(heads or ModelArch()).items()}


# GGUF

UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    """A GGUF string."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def info(name: str, dims: Sequence[int], kind: int, offset: int, n_dims: int | None = None) -> bytes:
    return text(name) + struct.pack("<I", len(dims) if n_dims is None else n_dims) + struct.pack(f"<{len(dims)}QIQ", *dims, kind, offset)


def gguf(
    pairs: Sequence[bytes] = (), infos: Sequence[bytes] = (), data: bytes = b"", *, version: int = 3, counts: tuple[int, int] | None = None
) -> bytes:
    """A GGUF file of these parts, header padded to 32 bytes; `counts` (tensors, pairs) may lie."""
    n_tensors, n_pairs = counts or (len(infos), len(pairs))
    header = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_pairs) + b"".join(pairs) + b"".join(infos)
    return header + b"\0" * (-len(header) % 32) + data


# safetensors


def safetensors(header: Mapping[str, Any] | bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file; `length` may lie about the header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


# torch.save


def checkpoint(**changes: object) -> dict[str, Any]:
    """The guide's dictionary, sound. `changes` replace top-level keys."""
    return {"step": 7, "model_state_dict": tensors(), "config": {"arch": dict(TOY_ARCH)}, "model_arch": {"use_halt_head": False}, **changes}


def archive(path: Path, pickled: bytes, storages: Mapping[str, bytes] | None = None) -> Path:
    """A `.pt` archive around hand-made pickle bytes, as `torch.save` lays it out."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/byteorder", "little")
        for key, raw in (storages or {}).items():
            file.writestr(f"a/data/{key}", raw)
        file.writestr("a/version", "3\n")
    return path


def tensor_pickle(
    *, key: object = "0", numel: object = 4, offset: object = 0, shape: object = (4,), strides: object = (1,), kind: str = "FloatStorage"
) -> bytes:
    """Pickle of `{'model_state_dict': {'w': tensor}}` whose every field may lie; protocol 2, as torch writes it."""

    def plain(value: object) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    name = b"ctorch._utils\n_rebuild_tensor_v2\n"
    pid = b"(" + plain("storage") + b"ctorch\n" + kind.encode() + b"\n" + plain(key) + plain("cpu") + plain(numel) + b"tQ"
    # Each `plain` counts memo places from 0: without `_forget`, a place written twice would be refused before the lie is seen.
    tensor = name + b"(" + pid + plain(offset) + plain(shape) + plain(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}" + _forget(plain("model_state_dict")) + b"}" + _forget(plain("w")) + _forget(tensor) + b"ss."


def _forget(pickled: bytes) -> bytes:
    """The same pickle without writing to the memo."""
    import pickletools

    out, operations = b"", list(pickletools.genops(pickled + b"."))
    for (code, _, at), (_, _, stop) in itertools.pairwise(operations):
        out += b"" if code.name in ("BINPUT", "LONG_BINPUT") else pickled[at:stop]
    return out
