"""Small real artifacts for tests of the foundation: a checkpoint directory whose contract is true."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from interlock.contracts import checkpoint, io
from interlock.contracts.base import CreatedBy, EnvironmentRecord, InputRef, digest_of, seal_of

ARCH = checkpoint.Arch(
    d_model=4, n_layers=1, n_heads=2, n_kv_heads=1, d_head=2, d_ff=4, vocab_size=3, rope_theta=1e4, norm_eps=1e-5, tie_embeddings=True, max_position=8
)
ENVIRONMENT = EnvironmentRecord(name="train", python="3.13.0", platform="linux-x86_64", lock_digest="0" * 64, packages={"torch": "2.13.0"})


def weights(fill: int = 0) -> bytes:
    """A safetensors file of ARCH, every byte of data `fill`, written from the format's description."""
    header, offset = {}, 0
    for name, shape in ARCH.weight_shapes(checkpoint.ModelArch()).items():
        size = 4 * int.__mul__(*shape) if len(shape) == 2 else 4 * shape[0]
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes([fill]) * offset


def write_checkpoint(directory: Path, fill: int = 0) -> checkpoint.CheckpointContract:
    """A checkpoint directory with its contract, written without the code under test's publisher."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / checkpoint.WEIGHTS).write_bytes(weights(fill))
    (directory / checkpoint.TOKENIZER).write_bytes(b"{}")
    contract = describe(directory)
    (directory / checkpoint.FILE).write_bytes(io.pretty(contract))
    return contract


def describe(directory: Path) -> checkpoint.CheckpointContract:
    sealed = checkpoint.CheckpointContract(
        created_by=CreatedBy(stage="import", project_version="0", source_digest="1" * 64, environment=ENVIRONMENT),
        inputs=(InputRef(kind="source", digest="2" * 64),),
        files=io.entries(directory),
        arch=ARCH,
        model_arch=checkpoint.ModelArch(),
        dtype="float32",
        parameters=72,
        tokenizer=checkpoint.TokenizerInfo(sha256=hashlib.sha256(b"{}").hexdigest(), vocab_size=3),
        source=checkpoint.Source(form="random", name="test", sha256="2" * 64),
    ).sealed()
    assert isinstance(sealed, checkpoint.CheckpointContract)
    return sealed


def resealed(document: dict[str, Any]) -> dict[str, Any]:
    """An edited contract with the digest and seal of its new values: only the rules of its fields can refuse it."""
    document = document | {"digest": digest_of(document)}
    return document if document["schema_version"] == 1 else document | {"seal": seal_of(document)}
