"""Small real artifacts for tests of the foundation: directories whose contracts are true, of the kinds that need no tool to make."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from fakes.makers import maker

from interlock.contracts import checkpoint, dataset, evaluation, io
from interlock.contracts.base import InputRef, digest_of, seal_of

ARCH = checkpoint.Arch(
    d_model=4, n_layers=1, n_heads=2, n_kv_heads=1, d_head=2, d_ff=4, vocab_size=3, rope_theta=1e4, norm_eps=1e-5, tie_embeddings=True, max_position=8
)


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
        created_by=maker("import"),
        inputs=(InputRef(kind="source", digest="2" * 64),),
        files=io.entries(directory),
        arch=ARCH,
        model_arch=checkpoint.ModelArch(),
        dtype="float32",
        parameters=120,
        tokenizer=checkpoint.TokenizerInfo(sha256=hashlib.sha256(b"{}").hexdigest(), vocab_size=3),
        source=checkpoint.Source(form="random", name="test", sha256="2" * 64),
    ).sealed()
    assert isinstance(sealed, checkpoint.CheckpointContract)
    return sealed


def resealed(document: dict[str, Any]) -> dict[str, Any]:
    """An edited contract with the digest and seal of its new values: only the rules of its fields can refuse it."""
    document = document | {"digest": digest_of(document)}
    return document if document["schema_version"] == 1 else document | {"seal": seal_of(document)}


def write_dataset(directory: Path) -> dataset.DatasetContract:
    """Two splits of text rows, tools with one fixture, a teacher's log-probabilities beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"7-0-{number}", "prompt": f"{number} and one", "answer": str(number + 1)} for number in range(5)]
    (directory / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    (directory / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[3:]))
    (directory / "tools.json").write_text('{"add": {"type": "object"}}')
    (directory / "fixtures.jsonl").write_text('{"name": "add", "key": {"a": 1}, "result": {"sum": 2}}\n')
    (directory / "teacher.bin").write_bytes(bytes(range(48)))
    contract = dataset.DatasetContract(
        created_by=maker("data"),
        inputs=(InputRef(kind="checkpoint", digest="3" * 64),),
        files=io.entries(directory),
        task="sums",
        generator=dataset.Generator(name="sums", seed=7, parameters={"greatest": 5, "carry": False, "share": 0.5, "language": "en"}),
        origin=None,
        splits={"train": dataset.Split(files=("train.jsonl",), rows=3), "test": dataset.Split(files=("test.jsonl",), rows=2)},
        tokenizer="4" * 64,
        tools=dataset.Tools(registry="tools.json", fixtures=("fixtures.jsonl",), source="generated"),
        teaching=dataset.Teaching(
            teacher="3" * 64, name="teacher", temperature=0.7, seed=7, max_new_tokens=8, top_k=2, tail="bucket", files=("teacher.bin",), vocab_size=8
        ),
        licence="CC0-1.0",
    ).sealed()
    assert isinstance(contract, dataset.DatasetContract)
    (directory / dataset.FILE).write_bytes(io.pretty(contract))
    return contract


def write_evaluation(directory: Path) -> evaluation.EvaluationContract:
    """Sixty items, a gate that holds (Wilson 95 % of 60/60: 0.940 to 1) and one that is waived."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / evaluation.RESULTS).write_text("".join(json.dumps({"id": f"7-0-{number:02}", "right": True}) + "\n" for number in range(60)))
    contract = evaluation.EvaluationContract(
        created_by=maker("eval"),
        inputs=(InputRef(kind="deployment", digest="5" * 64), InputRef(kind="dataset", digest="6" * 64)),
        files=io.entries(directory),
        suite="smoke",
        subject=evaluation.Subject(kind="deployment", name="student", digest="5" * 64),
        runner="deployment",
        backend="reference",
        decoding=evaluation.Decoding(temperature=0.0, seed=None, max_new_tokens=64),
        prompts="8" * 64,
        items=60,
        fixtures=evaluation.FixtureUse(dataset="6" * 64, source="generated", asked=12, missed=0),
        gates=(
            evaluation.GateResult(
                name="json", metric="json_args_valid_rate", claim="at least", threshold=0.9, measured=1.0, low=0.9398, high=1.0, confidence=0.95,
                method="wilson", n=60, verdict="pass",
            ),
            evaluation.GateResult(
                name="privacy", metric="privacy_ok_rate", claim="at least", threshold=0.98, measured=1.0, low=0.9398, high=1.0, confidence=0.95,
                method="wilson", n=60, verdict="inconclusive", waived="60 items cannot show 0.98",
            ),
        ),
        verdict="pass",
    ).sealed()  # fmt: skip
    assert isinstance(contract, evaluation.EvaluationContract)
    (directory / evaluation.FILE).write_bytes(io.pretty(contract))
    return contract
