"""Stage `train`: a dataset in, and a student's start; a checkpoint out.

Here: where the student and its tokenizer come from, what is written. Not here: the training (pipeline/training).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from interlock.calls import remove_tree
from interlock.contracts import checkpoint
from interlock.contracts.base import Frozen, InputRef
from interlock.contracts.dataset import DatasetContract
from interlock.errors import refuse
from interlock.fs import Workspace
from interlock.voice import Voice
from pipeline.driver import stage
from pipeline.training.settings import Settings
from pipeline.training.told import LOG

if TYPE_CHECKING:
    from pipeline.datasets.rows import Row
    from pipeline.datasets.tools import Registry
    from pipeline.training.examples import Example, Special
    from pipeline.training.loop import Data, Trace
    from pipeline.training.model import Trained
    from pipeline.training.ranks import Ranks
    from runtime.engine.tokenizer import Tokenizer
    from runtime.student.model import Student


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
    where what a killed run goes on from is kept, beside the output by default. `teacher` is a checkpoint directory, for the loss `kl` on rows that no
    teacher has answered before; a student from scratch then has its tokenizer."""

    dataset: Path
    start: Path | None = None
    teacher: Path | None = None
    scratch: Scratch | None = None
    settings: Settings = Field(default_factory=lambda: Settings(steps=1000))
    state: Path | None = None

    @model_validator(mode="after")
    def _starts_somewhere(self) -> Params:
        if (self.start is None) == (self.scratch is None):
            raise ValueError("a student starts from a checkpoint or from scratch: give one of `start` and `scratch`")
        if self.teacher is not None and not self.settings.weights.kl:
            raise ValueError("a teacher is there for the loss `kl`, whose weight is 0")
        if self.settings.distillation.on_policy and self.teacher is None:
            raise ValueError("on_policy needs a teacher that is there: give `teacher`")
        return self

    @property
    def state_path(self) -> Path:
        return self.state or self.out.parent / f".{self.out.name}.training"


@dataclass(frozen=True)
class Start:
    """The student's parts before training. `inputs`: what they were made from."""

    arch: checkpoint.Arch
    heads: checkpoint.ModelArch
    tokenizer: Tokenizer
    files: dict[str, bytes]
    info: checkpoint.TokenizerInfo
    step: int
    inputs: tuple[InputRef, ...]
    contract: checkpoint.CheckpointContract | None = None


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    with voice.task("load torch"):
        from pipeline.training import claims, workers
    settings = params.settings
    ready = prepare(params, voice)
    with workers.started(params.model_dump_json(), settings.processes) as ranks:
        (trained, trace), controls = train(params, ready, ranks, voice)
    rows = claims.chosen(ready.held_out)
    with voice.task("ask the held-out rows", unit="ways") as task:
        ways, halts = claims.asked(trained, rows, settings, controls, task)
    _write(work, trained, ready.start, trace)
    if params.state_path.exists():
        remove_tree(work.fs, params.state_path)
    start, source = ready.start, ready.source
    return stage.Outcome(
        body={
            "arch": start.arch,
            "model_arch": start.heads,
            "dtype": "float32",
            "step": start.step + trace.steps,
            "parameters": sum(one.numel() for one in trained.student.parameters()),
            "tokenizer": start.info,
            "source": checkpoint.Source(form="trained", name=source.task, sha256=source.digest),
            "training": claims.training(trained, settings, trace.steps, rows, ways, halts),
        },
        inputs=(InputRef(kind="dataset", digest=source.digest), *start.inputs),
        toy=source.toy,
    )


STAGE = stage.Stage("train", "train", "checkpoint", Params, work, __name__)


@dataclass(frozen=True)
class Ready:
    """Everything that a training needs but a student. `held_out` are the rows that are asked at the end."""

    source: DatasetContract
    start: Start
    special: Special
    data: Data
    held_out: list[Example]


def prepare(params: Params, voice: Voice) -> Ready:
    """Read and encode the rows, and find the student's start. Raises ContractError and UsageError for what does not fit together."""
    from pipeline.datasets.reading import read_split
    from pipeline.training import code_mode, encoding
    from pipeline.training.loop import Data
    from pipeline.training.teaching import targets

    source = stage.read_input(params.dataset, DatasetContract, voice, toy=params.toy)
    rows = {name: read_split(params.dataset, source, name, voice) for name in ("train", "validation", "test") if name in source.splits}
    if missing := {"train", "validation"} - set(rows):
        raise refuse(
            params.dataset, "/splits", expected="`train` and `validation`", found=f"no `{min(missing)}`", remedy="make the dataset with both"
        )
    origins = {name: encoding.origin(params.dataset, source, name, some) for name, some in rows.items()}
    start = start_of(params, rows["train"], origins["train"].registry, voice)
    special = encoding.special_of(start.info, spans=params.settings.latent is not None)
    start, teacher = with_teacher(params, start, voice)
    stored = params.settings.weights.kl and (teacher is None or (source.teaching is not None and source.teaching.top_k))
    teachers = targets.of(params.dataset, source, start.info) if stored else {}
    most = min(one.arch.max_position for one in (start, teacher) if one is not None)
    pairs = code_mode.counted(params.settings.code_mode)
    encoded: dict[str, list[Example]] = {
        name: encoding.encoded(some, start.tokenizer, most, origins[name], voice, teachers, pairs) for name, some in rows.items()
    }
    _check_needs(params, encoded)
    identity = " ".join((source.digest, start.info.sha256, *(one.digest for one in start.inputs)))
    data = Data(encoded["train"], encoded["validation"], identity, start.tokenizer.decode, teacher)
    return Ready(source, start, special, data, encoded.get("test", encoded["validation"]))


def _check_needs(params: Params, encoded: Mapping[str, Sequence[Example]]) -> None:
    """Raises ContractError where a loss has nothing to be of: slots without steps, a preference without pairs."""
    code = params.settings.code_mode
    if code is not None and not any(row.rejected for row in encoded["train"]):
        which = "" if code.pairs == "all" else " of a dialogue that is for code"
        expected = f"a row with `rejected`{which}: [train.code_mode] learns from pairs"
        remedy = 'leave [train.code_mode] out, or bring pairs in (docs/datasets.md); `code_mode.pairs` = "all" takes every pair'
        raise refuse(params.dataset, "/splits/train", expected=expected, found="none", remedy=remedy)
    for name, rows in encoded.items() if params.settings.latent else ():
        if not any(row.steps for row in rows):
            expected = "rows with a prompt and steps: [train.latent] says them in slots"
            raise refuse(params.dataset, f"/splits/{name}", expected=expected, found="none", remedy="leave [train.latent] out, or bring such rows in")


def train(params: Params, ready: Ready, ranks: Ranks, voice: Voice) -> tuple[tuple[Trained, Trace], dict[str, Trained]]:
    """The student with the trace of its training, and its controls by name. Every rank does the same."""
    names = params.settings.latent.controls if params.settings.latent else ()
    made = _fit(params, ready, None, ranks, voice, after=len(names))
    return made, {name: _fit(params, ready, name, ranks, voice, after=len(names) - number)[0] for number, name in enumerate(names, 1)}


def start_of(params: Params, rows: Sequence[Row], tools: Registry, voice: Voice) -> Start:
    """What training starts from; `rows` and the tools that they may call are what a tokenizer of the student's own is trained on."""
    if params.start is not None:
        contract, tokenizer, files = _checkpoint(params.start, params.toy, voice)
        return Start(contract.arch, contract.model_arch, tokenizer, files, tokenizer.info, contract.step, (_ref(contract),), contract)
    if params.scratch is not None and params.teacher is not None:
        contract, tokenizer, files = _checkpoint(params.teacher, params.toy, voice)
        given = params.scratch.model_dump(exclude={"halt_head", "vocab_size"})
        arch = checkpoint.Arch(**given, vocab_size=contract.arch.vocab_size)
        return Start(arch, checkpoint.ModelArch(use_halt_head=params.scratch.halt_head), tokenizer, files, tokenizer.info, 0, ())
    from pipeline.datasets import tokenizer as own
    from runtime.engine.tokenizer import Tokenizer

    assert params.scratch is not None
    with voice.task("train a tokenizer"):
        made = own.train(own.texts_of(rows, tools), params.scratch.vocab_size)
        files = {name: data for name, data in own.directory(made, tools=bool(tools)).items() if name != "tokenizer_config.json"}
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
    tokenizer = Tokenizer(files[checkpoint.TOKENIZER], info, chat_template=files[checkpoint.CHAT_TEMPLATE].decode())
    info = info.model_copy(update={"vocab_size": tokenizer.vocab_size})
    given = params.scratch.model_dump(exclude={"halt_head", "vocab_size"})
    arch = checkpoint.Arch(**given, vocab_size=-(-tokenizer.vocab_size // 32) * 32)  # whole rows of 32: what block formats need
    return Start(arch, checkpoint.ModelArch(use_halt_head=params.scratch.halt_head), tokenizer, files, info, 0, ())


def with_teacher(params: Params, start: Start, voice: Voice) -> tuple[Start, Student | None]:
    """The teacher that is there meanwhile, if one is, and the start that names it. Raises ContractError for other ids than the student's."""
    if params.teacher is None:
        return start, None
    from pipeline.training.teaching.vocabulary import require_same
    from runtime.student.checkpoint import load_student

    contract, tokenizer, _ = _checkpoint(params.teacher, params.toy, voice)
    theirs = tokenizer.info
    require_same("the student", start.info.sha256, start.info.vocab_size, contract.source.name, theirs.sha256, theirs.vocab_size)
    return replace(start, inputs=(*start.inputs, _ref(contract))), load_student(params.teacher, contract)


def _ref(contract: checkpoint.CheckpointContract) -> InputRef:
    return InputRef(kind="checkpoint", digest=contract.digest)


def _checkpoint(folder: Path, toy: bool, voice: Voice) -> tuple[checkpoint.CheckpointContract, Tokenizer, dict[str, bytes]]:
    """A checkpoint that has a tokenizer, with its files. Raises ContractError."""
    from runtime.engine.tokenizer import Tokenizer

    contract = stage.read_input(folder, checkpoint.CheckpointContract, voice, toy=toy)
    if contract.tokenizer is None:
        raise refuse(folder, "/tokenizer", expected="a tokenizer", found="none", remedy="import the checkpoint with `--tokenizer DIR`")
    names = [checkpoint.TOKENIZER, *([checkpoint.CHAT_TEMPLATE] if contract.tokenizer.has_chat_template else [])]
    return contract, Tokenizer.load(folder, contract.tokenizer), {name: (folder / name).read_bytes() for name in names}


def student_of(params: Params, start: Start) -> Student:
    """The student before its first step."""
    from runtime.student.checkpoint import load_student, random_student

    if start.contract is not None and params.start is not None:
        return load_student(params.start, start.contract).requires_grad_(True)
    return random_student(start.arch, start.heads, params.settings.seed)


def _fit(params: Params, ready: Ready, control: str | None, ranks: Ranks, voice: Voice, *, after: int) -> tuple[Trained, Trace]:
    """The student, or a control of it, trained from the same start; `after` more of them follow."""
    from pipeline.training.loop import fit
    from pipeline.training.model import Trained
    from pipeline.training.watching import Watcher

    trained = Trained(student_of(params, ready.start), params.settings, ready.special, control=control)
    folder = params.state_path / (control or "student")
    with voice.task(f"train control `{control}`" if control else "train", params.settings.steps, "steps") as task:
        trace = fit(trained, ready.data, params.settings, folder, ranks, Watcher(voice, task, control or "student", params.settings.steps, after))
    return trained, trace


def _write(work: Workspace, trained: Trained, start: Start, trace: Trace) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().contiguous() for name, tensor in trained.student.state_dict().items()}
    work.produce(checkpoint.WEIGHTS, lambda path: save_file(tensors, path))
    for name, content in start.files.items():
        work.write(name, content)
    work.write(LOG, "".join(json.dumps(line) + "\n" for line in trace.log).encode())
