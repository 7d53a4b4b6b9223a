"""Stage `train`: a dataset in, and a student's start; a checkpoint out.

Here: where the student and its tokenizer come from, what is written. Not here: the training (pipeline/training).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from interlock.calls import remove_tree
from interlock.contracts import checkpoint
from interlock.contracts.base import Frozen, InputRef
from interlock.contracts.dataset import DatasetContract
from interlock.errors import refuse
from interlock.fs import Workspace
from interlock.voice import Task, Voice
from pipeline.driver import stage
from pipeline.training.settings import Settings

if TYPE_CHECKING:
    from pipeline.training.loop import Data, Trace
    from pipeline.training.model import Trained
    from runtime.engine.tokenizer import Tokenizer

LOG = "training_log.jsonl"
# Rows of the test split that the claims are of, evenly taken: ±1.5 % at worst, in seconds.
CLAIM_ROWS = 3000


class Scratch(Frozen):
    """A student that starts from random weights: its architecture but for the vocabulary, whose `tokenizer` is trained on the rows."""

    d_model: checkpoint.Width = 128
    n_layers: checkpoint.Count = 2
    n_heads: checkpoint.Count = 4
    n_kv_heads: checkpoint.Count = 4
    d_head: int = 32
    d_ff: checkpoint.Width = 384
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = False
    max_position: int = 512
    vocab_size: int = 512
    halt_head: bool = False


class Params(stage.Params):
    """`dataset` is a dataset directory. The student starts from `start`, a checkpoint directory, or is made as `scratch` says. `state` is the folder
    where what a killed run goes on from is kept, beside the output by default."""

    dataset: Path
    start: Path | None = None
    scratch: Scratch | None = None
    settings: Settings = Field(default_factory=lambda: Settings(steps=1000))
    state: Path | None = None

    @model_validator(mode="after")
    def _starts_somewhere(self) -> Params:
        if (self.start is None) == (self.scratch is None):
            raise ValueError("a student starts from a checkpoint or from scratch: give one of `start` and `scratch`")
        return self

    @property
    def state_path(self) -> Path:
        return self.state or self.out.parent / f".{self.out.name}.training"


@dataclass(frozen=True)
class _Start:
    """The student's parts before training. `inputs`: what they were made from."""

    arch: checkpoint.Arch
    heads: checkpoint.ModelArch
    tokenizer: Tokenizer
    files: dict[str, bytes]
    info: checkpoint.TokenizerInfo
    step: int
    inputs: tuple[InputRef, ...]


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    source = stage.read_input(params.dataset, DatasetContract, voice, toy=params.toy)
    with voice.task("load torch"):
        from pipeline.training import claims, encoding
        from pipeline.training.loop import Data

    from pipeline.datasets.reading import read_split

    settings = params.settings
    rows = {name: read_split(params.dataset, source, name, voice) for name in ("train", "validation", "test") if name in source.splits}
    if missing := {"train", "validation"} - set(rows):
        raise refuse(
            params.dataset, "/splits", expected="`train` and `validation`", found=f"no `{min(missing)}`", remedy="make the dataset with both"
        )
    start = _start(
        params, (text for row in rows["train"] for text in (row.prompt or "", *(row.steps or ()), row.answer or "", row.response or "")), voice
    )
    special = encoding.special_of(start.info, spans=settings.latent is not None)
    encode = {name: encoding.encoded(some, start.tokenizer, start.arch.max_position, name, voice) for name, some in rows.items()}
    data = Data(encode["train"], encode["validation"], source.digest)
    trained, trace = _fit(params, start, special, data, None, voice)
    names = settings.latent.controls if settings.latent else ()
    controls: dict[str, Trained] = {name: _fit(params, start, special, data, name, voice)[0] for name in names}
    held_out = encode.get("test", encode["validation"])
    with voice.task("ask the held-out rows"):
        chosen = held_out[:: max(1, len(held_out) // CLAIM_ROWS)][:CLAIM_ROWS]
        ways, halts = claims.asked(trained, chosen, settings, controls)
    described = claims.training(settings, trace.steps, chosen, ways, halts)
    _write(work, trained, start, trace)
    if params.state_path.exists():
        remove_tree(work.fs, params.state_path)
    return stage.Outcome(
        body={
            "arch": start.arch,
            "model_arch": start.heads,
            "dtype": "float32",
            "step": start.step + trace.steps,
            "parameters": sum(one.numel() for one in trained.student.parameters()),
            "tokenizer": start.info,
            "source": checkpoint.Source(form="trained", name=source.task, sha256=source.digest),
            "training": described,
        },
        inputs=(InputRef(kind="dataset", digest=source.digest), *start.inputs),
        toy=source.toy,
    )


STAGE = stage.Stage("train", "train", "checkpoint", Params, work, __name__)


def _start(params: Params, texts: Any, voice: Voice) -> _Start:
    from runtime.engine.tokenizer import Tokenizer

    if params.start is not None:
        contract = stage.read_input(params.start, checkpoint.CheckpointContract, voice, toy=params.toy)
        if contract.tokenizer is None:
            raise refuse(params.start, "/tokenizer", expected="a tokenizer", found="none", remedy="import the checkpoint with `--tokenizer DIR`")
        tokenizer = Tokenizer.load(params.start, contract.tokenizer)
        names = [checkpoint.TOKENIZER, *([checkpoint.CHAT_TEMPLATE] if contract.tokenizer.has_chat_template else [])]
        files = {name: (params.start / name).read_bytes() for name in names}
        inputs = (InputRef(kind="checkpoint", digest=contract.digest),)
        return _Start(contract.arch, contract.model_arch, tokenizer, files, contract.tokenizer, contract.step, inputs)
    from pipeline.datasets import tokenizer as own

    assert params.scratch is not None
    with voice.task("train a tokenizer"):
        files = {name: data for name, data in own.directory(own.train(texts, params.scratch.vocab_size)).items() if name != "tokenizer_config.json"}
    ids = {token["content"]: token["id"] for token in json.loads(files[checkpoint.TOKENIZER])["added_tokens"]}
    info = checkpoint.TokenizerInfo(
        sha256=hashlib.sha256(files[checkpoint.TOKENIZER]).hexdigest(),
        vocab_size=params.scratch.vocab_size,
        bos_id=ids[own.TURN],
        eos_ids=(ids[own.END_OF_TURN],),
        pad_id=ids[own.END_OF_TEXT],
        bot_id=ids["<bot>"],
        eot_id=ids["<eot>"],
        has_chat_template=True,
    )
    tokenizer = Tokenizer(files[checkpoint.TOKENIZER], info)
    info = info.model_copy(update={"vocab_size": tokenizer.vocab_size})
    given = params.scratch.model_dump(exclude={"halt_head", "vocab_size"})
    arch = checkpoint.Arch(**given, vocab_size=-(-tokenizer.vocab_size // 32) * 32)  # whole rows of 32: what block formats need
    return _Start(arch, checkpoint.ModelArch(use_halt_head=params.scratch.halt_head), tokenizer, files, info, 0, ())


def _fit(params: Params, start: _Start, special: Any, data: Data, control: str | None, voice: Voice) -> tuple[Trained, Trace]:
    """The student, or a control of it, trained from the same start."""
    from pipeline.training.loop import fit
    from pipeline.training.model import Trained
    from pipeline.training.ranks import join
    from runtime.student.checkpoint import load_student, random_student

    if params.start is not None:
        contract = stage.read_input(params.start, checkpoint.CheckpointContract, voice, toy=params.toy)
        student = load_student(params.start, contract).requires_grad_(True)
    else:
        student = random_student(start.arch, start.heads, params.settings.seed)
    trained = Trained(student, params.settings, special, control=control)
    folder = params.state_path / (control or "student")
    with voice.task(f"train control `{control}`" if control else "train", params.settings.steps, "steps") as task:
        trace = fit(trained, data, params.settings, folder, join(), partial(_tell, task))
    return trained, trace


def _tell(task: Task, line: dict[str, Any], tokens: int) -> None:
    parts = [f"{name} {line[name]:.3f}" for name in ("total", "ce", "halt") if name in line]
    if "by_slots" in line:
        parts.append("by slots " + " ".join(f"{loss:.3f}" for loss in line["by_slots"].values()))
    task.note(", ".join(parts))
    task.advance()


def _write(work: Workspace, trained: Trained, start: _Start, trace: Trace) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().contiguous() for name, tensor in trained.student.state_dict().items()}
    work.produce(checkpoint.WEIGHTS, lambda path: save_file(tensors, path))
    for name, content in start.files.items():
        work.write(name, content)
    work.write(LOG, "".join(json.dumps(line) + "\n" for line in trace.log).encode())
