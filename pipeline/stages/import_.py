"""Stage `import`: a foreign checkpoint in, a checkpoint with its contract out.

Here: what is written. Not here: reading foreign formats (pipeline/sources), the file of a halt head (pipeline/halting/head.py).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.contracts import checkpoint
from interlock.contracts.base import InputRef
from interlock.errors import UsageError
from interlock.fs import Workspace, require_space
from interlock.voice import Voice
from pipeline.driver import stage

if TYPE_CHECKING:
    import torch

    from pipeline.sources.foreign import Foreign, TokenizerFiles


class Params(stage.Params):
    """`source` is `package:NAME`, `gguf:FILE`, `hf:DIR`, `pt:FILE` or a path; `tokenizer` a Hugging Face directory, for a source without one.

    `halt_head` is the file of a head that was fitted on these very weights; `latent_tokens` are two control tokens that nothing was trained on and
    that are called `<bot>` and `<eot>` from here on, so that the vocabulary keeps its size.
    """

    source: str
    tokenizer: Path | None = None
    halt_head: Path | None = None
    latent_tokens: tuple[str, str] | None = None


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    from pipeline.halting import head as heads
    from pipeline.sources.opening import open_source

    head = heads.read(params.halt_head) if params.halt_head else None
    with voice.task(f"read {params.source}"):
        foreign = open_source(params.source)
    if params.halt_head and head:
        heads.check_wanted(params.halt_head, head, foreign.arch, foreign.model_arch)
    sizes = {name: _count(shape) for name, shape in foreign.shapes.items()}
    # blocks are never larger than half of the widened weights
    require_space(params.out.parent, (6 if foreign.blocks else 4) * sum(sizes.values()) + (64 << 20))
    tensors = _read_weights(foreign, sizes, voice)
    if params.halt_head and head:
        with voice.task("compare the weights with those that the halt head was fitted on"):
            heads.check_backbone(params.halt_head, head, tensors)
        tensors |= head.tensors
    with voice.task(f"write {checkpoint.WEIGHTS}"):
        _write_weights(tensors, work)
    _write_blocks(foreign, work, voice)
    files = foreign.tokenizer or _other_tokenizer(params.tokenizer)
    if params.latent_tokens:
        files = _with_latent_tokens(files, params.latent_tokens, params.source)
    return stage.Outcome(
        body={
            "arch": foreign.arch,
            "model_arch": foreign.model_arch.model_copy(update={"use_halt_head": True}) if head else foreign.model_arch,
            "dtype": "float32",
            "step": foreign.step,
            "parameters": sum(tensor.numel() for tensor in tensors.values()),
            "tokenizer": _write_tokenizer(files, work) if files else None,
            "source": foreign.source,
            "training": head.training() if head else None,
        },
        inputs=(InputRef(kind="source", digest=foreign.source.sha256),),
    )


STAGE = stage.Stage("import", "train", "checkpoint", Params, work, __name__)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for extent in shape:
        total *= extent
    return total


def _read_weights(foreign: Foreign, sizes: dict[str, int], voice: Voice) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    with voice.task("read tensors", sum(sizes.values()) * 4, "B") as task:
        for name, size in sizes.items():
            task.note(name)
            tensors[name] = foreign.load(name).contiguous()
            task.advance(size * 4)
    return tensors


def _write_weights(tensors: dict[str, torch.Tensor], work: Workspace) -> None:
    from safetensors.torch import save_file

    work.produce(checkpoint.WEIGHTS, lambda path: save_file(tensors, path))


def _write_blocks(foreign: Foreign, work: Workspace, voice: Voice) -> None:
    """The source's own blocks, so that a package can carry them instead of quantising what was quantised already."""
    from safetensors.torch import save_file

    if foreign.blocks is None or not foreign.source.quantization:
        return
    read = foreign.blocks
    with voice.task(f"write {checkpoint.BLOCKS}"):
        work.produce(checkpoint.BLOCKS, lambda path: save_file({name: read(name) for name in foreign.source.quantization}, path))


def _other_tokenizer(directory: Path | None) -> TokenizerFiles | None:
    if directory is None:
        return None
    from pipeline.sources.tokenizer import from_huggingface

    return from_huggingface(directory)


def _with_latent_tokens(files: TokenizerFiles | None, names: tuple[str, str], source: str) -> TokenizerFiles:
    from pipeline.sources.vocabulary import renamed

    if files is None:
        raise UsageError(
            f"`{source}` brings no tokenizer whose tokens could be renamed", remedy="name one with --tokenizer, or leave out latent_tokens"
        )
    return renamed(files, dict(zip(names, ("<bot>", "<eot>"), strict=True)), source)


def _write_tokenizer(files: TokenizerFiles, work: Workspace) -> checkpoint.TokenizerInfo:
    work.write(checkpoint.TOKENIZER, files.tokenizer_json)
    tokens = {entry["content"]: entry["id"] for entry in json.loads(files.tokenizer_json).get("added_tokens", [])}
    info = checkpoint.TokenizerInfo(
        sha256=hashlib.sha256(files.tokenizer_json).hexdigest(),
        vocab_size=files.vocab_size,
        bos_id=files.bos_id,
        eos_ids=files.eos_ids,
        pad_id=files.pad_id,
        bot_id=tokens.get("<bot>"),
        eot_id=tokens.get("<eot>"),
        add_bos=files.add_bos,
        has_chat_template=files.chat_template is not None,
    )
    if files.chat_template is not None:
        work.write(checkpoint.CHAT_TEMPLATE, files.chat_template.encode())
    return info
