"""What every source hands over: one foreign checkpoint, described and validated, its numbers not yet read.

Here: the records that the readers fill and the import stage consumes. Not here: how a format is read (one module each), what is written
from it (pipeline/stages).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlock.contracts.checkpoint import Arch, ModelArch, Source

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer as the `tokenizers` library reads it, and what a token loop needs beside it.

    `tokenizer_json` is the content of a `tokenizer.json`; `vocab_size` counts ids 0..vocab_size-1, added tokens included.
    """

    tokenizer_json: bytes
    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int | None
    add_bos: bool
    vocab_size: int
    chat_template: str | None


@dataclass(frozen=True)
class Foreign:
    """A checkpoint from elsewhere. Its header is proven; `load` reads one tensor at a time and may still refuse its content.

    `shapes`: by the guide's tensor names, exactly `arch.weight_shapes(model_arch)`.
    `load(name)`: fp32, of that shape, contiguous. Raises ContractError if the file's content is not what its header said.
    `tokenizer` is None where the format carries none (`.pt`).
    `blocks(name)`: for the tensors of `source.quantization`, the rows as stored, uint8 [rows, bytes of a row], in the order of the weight's rows.
    """

    arch: Arch
    model_arch: ModelArch
    step: int
    source: Source
    shapes: Mapping[str, tuple[int, ...]]
    load: Callable[[str], torch.Tensor]
    tokenizer: TokenizerFiles | None
    blocks: Callable[[str], torch.Tensor] | None = None
