"""The model's own answers to dialogues, collected once and kept: text, and the hidden state wherever the text may end.

Here: asking a frozen checkpoint, the files that keep what it said. Not here: the forward pass (decode.py), judging an answer (labels.py).
A folder of answers holds one safetensors file per batch. What is there is not asked again; what is missing is asked in batches of similar length, so
that a run that was ended goes on. Answers in bf16 vary with the number of threads: the kept ones are what a head was fitted on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from interlock.canonical import canonical_json
from interlock.contracts import strict
from interlock.contracts.base import Frozen
from interlock.errors import refuse
from interlock.fs import save_file
from interlock.voice import Voice
from pipeline.halting.decode import Batched
from pipeline.halting.dialogues import Dialogue
from pipeline.sources.safetensors import check_header
from runtime.engine.chat import render_chat
from runtime.engine.endings import ends_cleanly
from runtime.engine.tokenizer import Stream, Tokenizer

LIMIT = 48  # tokens of an answer: long enough that four in ten complete ones go on
BATCH = 64
METADATA = "interlock.answers"
MAX_FILE = 64 << 20
REMEDY = "remove the file: its answers are then asked again"


class _Kept(Frozen):
    """One answer in a file's metadata. `pieces`: the text that each token completes; `ended`: an end token came after them."""

    key: str
    pieces: Annotated[tuple[str, ...], Field(max_length=LIMIT)]
    ended: bool


class _File(Frozen):
    answers: tuple[_Kept, ...]


@dataclass(frozen=True)
class Answer:
    """What the model said to a dialogue. At the places `at`, tokens after which the text ends cleanly: hidden [K, d] fp32 and signals [K, 3]:
    log P(end), entropy in nats, greatest probability."""

    dialogue: Dialogue
    pieces: tuple[str, ...]
    ended: bool
    at: NDArray[np.int32]
    hidden: NDArray[np.float32]
    signals: NDArray[np.float32]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class _Stored:
    kept: _Kept
    at: NDArray[np.int32]
    hidden: NDArray[np.float32]
    signals: NDArray[np.float32]


def collect(
    model: Batched, tokenizer: Tokenizer, backbone: str, asked: Sequence[Dialogue], folder: Path, voice: Voice, *, limit: int = LIMIT
) -> list[Answer]:
    """Every dialogue with its answer, in order: those kept in `folder`, and the rest asked now and kept there. Raises ContractError."""
    prompts = prompt_ids(tokenizer, [dialogue.prompt for dialogue in asked])
    keys = [_key(backbone, prompt, limit) for prompt in prompts]
    known = _read(folder)
    missing = sorted({key: i for i, key in enumerate(keys) if key not in known}.values(), key=lambda i: len(prompts[i]))
    if missing:
        with voice.task("ask the model", total=len(missing), unit="answers") as task:
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                stored = _ask(model, tokenizer, [(keys[i], prompts[i]) for i in batch], limit)
                _write(folder / f"{stored[0].kept.key}.safetensors", stored)
                known |= {one.kept.key: one for one in stored}
                task.advance(len(batch))
    found = [known[key] for key in keys]
    return [Answer(d, one.kept.pieces, one.kept.ended, one.at, one.hidden, one.signals) for d, one in zip(asked, found, strict=True)]


def prompt_ids(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """Ids of one user's message each, as `infer` gives them to the model. The template, the same for all, is rendered once: a child for each of
    thousands of prompts would take longer than the model. Prompts are ours: they hold no control token and no space at either end."""
    if tokenizer.chat_template is None:
        return [tokenizer.encode_prompt(prompt) for prompt in prompts]
    mark = "PROMPT-0451-PLACE"
    strings = (tokenizer.token_string(tokenizer.info.bos_id), tokenizer.token_string(next(iter(tokenizer.info.eos_ids), None)))
    text = render_chat(tokenizer.chat_template, [{"role": "user", "content": mark}], bos_token=strings[0], eos_token=strings[1])
    before, _, after = text.partition(mark)
    return [tokenizer.encode(before + prompt + after, control=True) for prompt in prompts]


def _key(backbone: str, prompt: list[int], limit: int) -> str:
    return hashlib.sha256(canonical_json([backbone, prompt, limit])).hexdigest()[:32]


def _ask(model: Batched, tokenizer: Tokenizer, prompts: Sequence[tuple[str, list[int]]], limit: int) -> list[_Stored]:
    streams = [Stream(tokenizer) for _ in prompts]
    pieces: list[list[str]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    kept: list[list[tuple[int, NDArray[np.float32], tuple[float, float, float]]]] = [[] for _ in prompts]
    eos = tokenizer.info.eos_ids
    for moments in model.answers([ids for _, ids in prompts], eos, limit):
        for moment in moments:
            said = pieces[moment.row]
            if said and ends_cleanly("".join(said)):
                kept[moment.row].append((len(said), moment.hidden.numpy().copy(), moment.signals(eos)))
            if moment.token in eos:
                ended[moment.row] = True
            elif len(said) < limit:
                said.append(streams[moment.row].push(moment.token))
    width = model.student.arch.d_model
    return [
        _Stored(
            _Kept(key=key, pieces=tuple(pieces[row]), ended=ended[row]),
            np.array([at for at, _, _ in kept[row]], np.int32),
            np.array([hidden for _, hidden, _ in kept[row]], np.float32).reshape(-1, width),
            np.array([signals for _, _, signals in kept[row]], np.float32).reshape(-1, 3),
        )
        for row, (key, _) in enumerate(prompts)
    ]


def _write(path: Path, stored: Sequence[_Stored]) -> None:
    from safetensors.numpy import save

    tensors = {
        "row": np.repeat(np.arange(len(stored), dtype=np.int32), [len(one.at) for one in stored]),
        "at": np.concatenate([one.at for one in stored]),
        "hidden": np.concatenate([one.hidden for one in stored]),
        "signals": np.concatenate([one.signals for one in stored]),
    }
    told = _File(answers=tuple(one.kept for one in stored)).model_dump(mode="json")
    save_file(path, save(tensors, {METADATA: json.dumps(told)}))


def _read(folder: Path) -> dict[str, _Stored]:
    """Every answer that is kept in a folder. Raises ContractError for a file that is not one of ours."""
    return {one.kept.key: one for path in sorted(folder.glob("*.safetensors")) for one in _read_file(path)}


def _read_file(path: Path) -> Iterable[_Stored]:
    from safetensors import safe_open

    if (size := path.stat().st_size) > MAX_FILE:
        raise refuse(path, "", expected=f"at most {MAX_FILE} bytes", found=f"{size}", remedy=REMEDY)
    header = check_header(path)
    rows = header["row"].shape[0] if "row" in header and len(header["row"].shape) == 1 else -1
    width = header["hidden"].shape[-1] if "hidden" in header else 0
    wanted = {"row": ("I32", (rows,)), "at": ("I32", (rows,)), "hidden": ("F32", (rows, width)), "signals": ("F32", (rows, 3))}
    if {name: (entry.dtype, entry.shape) for name, entry in header.items()} != wanted:
        raise refuse(path, "", expected="row, at, hidden and signals of one length", found="other tensors", remedy=REMEDY)
    with safe_open(str(path), framework="np") as file:
        told = (file.metadata() or {}).get(METADATA, "{}")
        tensors: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in wanted}
    answers = strict.validate(_File, strict.parse_json(told.encode(), str(path), remedy=REMEDY), str(path), remedy=REMEDY).answers
    for row, kept in enumerate(answers):
        mine = tensors["row"] == row
        at = tensors["at"][mine]
        if not all(1 <= t <= len(kept.pieces) and ends_cleanly("".join(kept.pieces[:t])) for t in at):
            raise refuse(path, f"/answers/{row}", expected="places at which its text ends cleanly", found=at.tolist(), remedy=REMEDY)
        yield _Stored(kept, at, tensors["hidden"][mine], tensors["signals"][mine])
