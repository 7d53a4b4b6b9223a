"""Log-probabilities beside the rows of a dataset: safetensors files, indexed by the ids of rows.

Here: writing and reading them. Not here: where they come from, the contract that names them (interlock/contracts/dataset.py).
A file holds some rows, their tokens one after another: `offsets` int64 [R + 1] (row r has tokens offsets[r] to offsets[r + 1]), `tokens` int32 [N],
`ids` int32 [N, k], `logprobs` fp16 [N, k], `tail` fp32 [N]; the metadata's `rows` is the JSON list of the R ids. 392 bytes a token at k = 64.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from interlock.contracts.dataset import DatasetContract, Teaching
from interlock.errors import refuse
from pipeline.training.teaching.answers import FORMS, Top

SHARD_BYTES = 64 << 20
# Ids are int32; where no size is said, only that bounds them.
_ANY_SIZE = 1 << 31
SLACK = 1e-2  # a probability of 1 in fp16, and what an endpoint rounds
REMEDY = "make it again: `interlock data teach`"


def packed(answers: Iterable[tuple[str, Top]], limit: int = SHARD_BYTES) -> Iterator[bytes]:
    """The files of some rows, each of about `limit` bytes."""
    names: list[str] = []
    tops: list[Top] = []
    size = 0
    for name, top in answers:
        names.append(name)
        tops.append(top)
        size += sum(getattr(top, part).nbytes for part in FORMS)
        if size >= limit:
            yield _file(names, tops)
            names, tops, size = [], [], 0
    if names:
        yield _file(names, tops)


def _file(names: list[str], tops: list[Top]) -> bytes:
    arrays: dict[str, NDArray[np.generic]] = {part: np.concatenate([getattr(top, part) for top in tops]) for part in FORMS}
    arrays["offsets"] = np.cumsum([0, *(len(top.tokens) for top in tops)], dtype=np.int64)
    made: bytes = save(arrays, {"rows": json.dumps(names)})
    return made


def read_shards(directory: Path, contract: DatasetContract) -> dict[str, Top]:
    """What a teacher said, by the ids of rows, of a dataset whose files are proven.

    Raises ContractError for files that are not what the contract says; empty where the dataset has none.
    """
    found: dict[str, Top] = {}
    teaching = contract.teaching
    for name in teaching.files if teaching else ():
        assert teaching is not None
        for row, top in _read(directory / name, teaching):
            if row in found:
                raise refuse(directory / name, f"rows/{row}", expected="each row once", found="it again", remedy=REMEDY)
            found[row] = top
    return found


def _read(path: Path, teaching: Teaching) -> Iterator[tuple[str, Top]]:
    try:
        with safe_open(str(path), framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            names = json.loads((file.metadata() or {}).get("rows", "null"))
    except (OSError, SafetensorError, ValueError) as problem:
        raise refuse(path, "", expected="a safetensors file", found=problem, remedy=REMEDY) from problem
    _check(path, arrays, names, teaching)
    offsets = arrays["offsets"]
    for number, name in enumerate(names):
        part = slice(int(offsets[number]), int(offsets[number + 1]))
        yield name, Top(*(arrays[key][part] for key in FORMS))


def _check(path: Path, arrays: dict[str, NDArray[np.generic]], names: object, teaching: Teaching) -> None:
    """Raises ContractError for the first thing that a loss would stumble over, or believe."""
    rows = names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
    tokens, k = arrays["tokens"].size if "tokens" in arrays else 0, teaching.top_k
    shapes = {"tokens": (tokens,), "ids": (tokens, k), "logprobs": (tokens, k), "tail": (tokens,), "offsets": (len(rows or ()) + 1,)}
    dtypes = {name: np.dtype(form) for name, form in {**FORMS, "offsets": np.int64}.items()}
    found = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
    if rows is None or found != (wanted := {name: (str(dtypes[name]), shape) for name, shape in shapes.items()}):
        shown = f"{found}, rows {'a list' if rows is not None else 'none'}"
        raise refuse(path, "", expected=f"{wanted if rows is not None else 'a list `rows` in the metadata'}", found=shown, remedy=REMEDY)
    offsets, size = arrays["offsets"].astype(np.int64), teaching.vocab_size or _ANY_SIZE
    if offsets[0] != 0 or offsets[-1] != tokens or bool((np.diff(offsets) < 0).any()):
        raise refuse(path, "offsets", expected=f"numbers that rise from 0 to {tokens}", found=offsets[:8].tolist(), remedy=REMEDY)
    for name in ("tokens", "ids"):
        array = arrays[name].astype(np.int64)
        if array.size and not 0 <= int(np.min(array)) <= int(np.max(array)) < size:
            raise refuse(path, name, expected=f"ids from 0 to {size - 1}", found=f"{np.min(array)} to {np.max(array)}", remedy=REMEDY)
    for name in ("logprobs", "tail"):
        values = arrays[name].astype(np.float64)
        if not bool((values <= SLACK).all()):  # NaN is not
            raise refuse(path, name, expected="logarithms of probabilities", found=float(np.max(values)), remedy=REMEDY)
