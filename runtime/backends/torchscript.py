"""Backend `torchscript`: the exported files themselves, run step by step on the CPU.

Here: the two modules and the cache that they write into. Not here: opening a file (torchscript_file.py), writing one (pipeline/export).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from interlock.contracts.checkpoint import Arch
from interlock.contracts.export import LATENT
from interlock.errors import UsageError
from runtime.backends.protocol import Step, Vector, check_rewind, check_room, decode_one_by_one, score_one_by_one
from runtime.backends.torchscript_file import load_torchscript

# The exported graph attends to every slot of the cache it is given: slots are added in steps that keep that waste small and copies rare.
SLOTS = 256


class TorchScriptCache:
    """Keys and values of one sequence, each fp32 [L, H_kv, C, D]; C grows in steps up to the capacity. Slots from `position` on are hidden."""

    def __init__(self, arch: Arch) -> None:
        self.arch, self.capacity = arch, arch.max_position
        self.position = 0
        shape = (arch.n_layers, arch.n_kv_heads, min(SLOTS, self.capacity), arch.d_head)
        self.k, self.v = torch.zeros(shape), torch.zeros(shape)

    def rewind(self, position: int) -> None:
        """Forget everything from `position` on. Raises ValueError unless 0 ≤ position ≤ self.position."""
        check_rewind(self.position, position)
        self.position = position

    @property
    def size_bytes(self) -> int:
        return self.k.nbytes + self.v.nbytes

    def copy(self, position: int) -> TorchScriptCache:
        """A sequence of its own that has the first `position` inputs. Raises ValueError unless 0 ≤ position ≤ self.position."""
        check_rewind(self.position, position)
        made = TorchScriptCache(self.arch)
        made.reserve(position)
        made.k[:, :, :position], made.v[:, :, :position] = self.k[:, :, :position], self.v[:, :, :position]
        made.position = position
        return made

    def reserve(self, count: int) -> None:
        """Make room for `count` more inputs. Raises UsageError beyond the capacity."""
        check_room(self.capacity, self.position, count)
        needed = self.position + count
        if needed > self.k.shape[2]:
            slots = min(-(-needed // SLOTS) * SLOTS, self.capacity)
            self.k, self.v = self._grown(self.k, slots), self._grown(self.v, slots)

    def _grown(self, cache: Tensor, slots: int) -> Tensor:
        grown = cache.new_zeros(*cache.shape[:2], slots, cache.shape[3])
        grown[:, :, : self.position] = cache[:, :, : self.position]
        return grown


class TorchScriptBackend:
    """`model_prefill_fp16.pt` and `model_decode_fp16.pt` behind the protocol. The caller has compared their digests with a contract."""

    def __init__(self, prefill: Path, decode: Path, arch: Arch, *, use_halt_head: bool) -> None:
        self.arch, self._halts = arch, use_halt_head
        self._prefill, self._decode = load_torchscript(prefill), load_torchscript(decode)

    @property
    def capacity(self) -> int:
        return self.arch.max_position

    def new_cache(self) -> TorchScriptCache:
        return TorchScriptCache(self.arch)

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int], cache: TorchScriptCache) -> Step:
        """Append tokens. See Backend.prefill."""
        if not len(ids):
            raise ValueError("prefill needs at least one id")
        cache.reserve(len(ids))
        tokens, positions = self._inputs(ids, cache.position)
        last = torch.tensor([len(ids) - 1], dtype=torch.int32)
        outputs = self._prefill.prefill(tokens, positions, last, cache.k, cache.v)
        cache.position += len(ids)
        return self._step(outputs)

    @torch.inference_mode()
    def decode(self, inp: int | Vector, cache: TorchScriptCache) -> Step:
        """Append one token or one latent vector. See Backend.decode; a vector raises UsageError where the files take tokens only."""
        if isinstance(inp, np.ndarray) and not hasattr(self._decode, LATENT):
            raise UsageError("the exported files take tokens only, not latent vectors", remedy="use --backend eager, or leave latent mode off")
        cache.reserve(1)
        if isinstance(inp, np.ndarray):
            position = torch.tensor([cache.position], dtype=torch.int32)
            outputs = self._decode.latent(torch.from_numpy(inp)[None, None], position, cache.k, cache.v)
        else:
            outputs = self._decode(*self._inputs([inp], cache.position), cache.k, cache.v)
        cache.position += 1
        return self._step(outputs)

    def decode_many(self, inputs: Sequence[int | Vector], caches: Sequence[TorchScriptCache]) -> list[Step]:
        """See Backend.decode_many."""
        return decode_one_by_one(self, inputs, caches)

    def score(self, ids: Sequence[int], cache: TorchScriptCache) -> list[Step]:
        """See Backend.score."""
        return score_one_by_one(self, ids, cache)

    @staticmethod
    def _inputs(ids: Sequence[int], position: int) -> tuple[Tensor, Tensor]:
        tokens = torch.tensor([list(ids)], dtype=torch.int32)
        return tokens, torch.arange(position, position + len(ids), dtype=torch.int32)

    def _step(self, outputs: tuple[Tensor, ...]) -> Step:
        """outputs: logits [1, 1, V], [halt_logits [1, 2],] hidden [1, 1, d]."""
        halt = outputs[1][0].numpy() if self._halts else None
        return Step(outputs[0][0, 0].numpy(), halt, outputs[-1][0, 0].numpy())
