"""A trained checkpoint as contracts tell of it, with its log: for reports, which read nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fakes.chains import Edit, write_chain

from interlock.contracts.export import DECODE, LATENT
from pipeline.training.told import LOG

TRAINING: dict[str, Any] = {
    "losses": {"ce": 1.0, "step": 1.5, "halt": 0.2},
    "seed": 0,
    "steps": 40,
    "latent": {"schedule": "mixture", "slots_per_step": 1, "max_slots": 10, "step_loss": 1.5, "helps": True},
    "halt": {
        "reads": "slot",
        "threshold": 0.7,
        "backbone": None,
        "evidence": {
            "auc": 0.99,
            "ece": 0.02,
            "bin 0 rows": 90,
            "bin 0 said": 0.05,
            "bin 0 true": 0.1,
            "bin 1 rows": 10,
            "bin 1 said": 0.9,
            "bin 1 true": 0.8,
        },
    },
    "asked": 300,
    "tokens": {"text": 12.5, "spans": 2.0},
    "passes": {"text": 12.5, "spans": 6.25},
    "accuracy": {"text": {"1": 1.0, "2": 0.75, "10": 0.5}, "spans": {"1": 1.0, "2": 0.95, "10": 0.9}, "control pause": {"10": 0.1}},
}


def log_lines(steps: int) -> list[dict[str, Any]]:
    """A log of falling losses with an evaluation at every tenth step."""
    made = []
    for step in range(1, steps + 1):
        line: dict[str, Any] = {"step": step, "lr": 1e-3, "replaced": step % 3, "total": 6 / step, "norm": 1.0, "losses": {"ce": 4 / step}}
        if step % 3:
            line["losses"] |= {"step": 1 / step, "halt": 0.5 / step}
        if step % 10 == 0:
            line |= {"validation": 5 / step, "by_slots": {"0": 4 / step, "1": 5 / step, "2": 6 / step, "10": 7 / step}}
            line |= {"accuracy": {"text": {"1": 1 - 1 / step}, "spans": {"1": 1 - 2 / step, "10": 0.0}}}
            line |= {"samples": [{"id": "r", "way": "text", "said": " s1", "wanted": " s1", "right": True}]}
        made.append(line)
    return made


def write_trained_chain(folder: Path, more: Edit = lambda kind, document: None, log: bytes | None = None) -> dict[str, dict[str, Any]]:
    """`chains.write_chain` of a trained checkpoint, whose folder holds its log (of 40 steps, where none is given)."""
    text = b"".join(json.dumps(line).encode() + b"\n" for line in log_lines(40)) if log is None else log

    def edit(kind: str, document: dict[str, Any]) -> None:
        if kind in ("checkpoint", "export"):
            document["training"] = TRAINING
        if kind == "export":  # a student with spans exports the step of a slot, which takes a vector for the token
            methods = document["signatures"][DECODE]["methods"]
            width = document["arch"]["d_model"]
            vector = {"name": "hidden", "dtype": "float32", "shape": [1, 1, width]}
            methods[LATENT] = {**methods["forward"], "inputs": [vector, *methods["forward"]["inputs"][1:]]}
        if kind == "checkpoint":
            document["files"].append({"path": LOG, "sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)})
        more(kind, document)

    made = write_chain(folder, edit)
    (folder / "checkpoint" / LOG).write_bytes(text)
    return made
