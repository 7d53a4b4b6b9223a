"""Every enumerated length, run through the saved TorchScript files and compared with the eager student.

Here: the runs and their figures. Not here: how figures are computed (runtime/numerics.py), which lengths and bounds a build has (the stage).
The student is causal, so one eager pass over the longest sequence is the reference of all lengths and of every decode step after them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interlock.contracts.checkpoint import TOKENIZER, CheckpointContract
from interlock.contracts.export import DECODE, PREFILL, ExportContract, ShapeResult
from interlock.voice import Task
from pipeline.export.torchscript import caches
from pipeline.gates.spans import Span
from pipeline.gates.thresholds import EXPORTED_PSNR_DB
from runtime.backends.torchscript_file import load_torchscript
from runtime.numerics import Comparison, compare_logits
from runtime.student.model import Student

# The contract's cap: identical values have no finite ratio, and JSON has no infinity.
PSNR_CAP_DB = 200.0
# Positions whose reference logits are made at a time: 100 MB for a vocabulary of 49152.
SLICE = 512


def prompt_ids(directory: Path, contract: CheckpointContract | ExportContract) -> list[int]:
    """Token ids of the prose in prompt.txt under the model's own tokenizer: real text, because random ids make logits that no user sees.

    One without a tokenizer (a toy) gets ids spread evenly over its vocabulary.
    """
    from tokenizers import Tokenizer

    if contract.tokenizer is None:
        # Multiples of a prime, modulo the vocabulary: every id comes up before one repeats (unless the vocabulary is a multiple of it).
        return [i * 7919 % contract.arch.vocab_size for i in range(contract.arch.vocab_size)]
    text = resources.files(__package__).joinpath("prompt.txt").read_text(encoding="utf-8")
    ids: list[int] = Tokenizer.from_file(str(directory / TOKENIZER)).encode(text, add_special_tokens=False).ids
    bos = contract.tokenizer.bos_id
    return [bos, *ids] if contract.tokenizer.add_bos and bos is not None else ids


def validate_shapes(
    files: Mapping[str, Path],
    student: Student,
    lengths: Sequence[int],
    prompt_ids: Sequence[int],
    *,
    steps: Mapping[int, int],
    latent_slots: int = 0,
    task: Task,
    min_psnr_db: float = EXPORTED_PSNR_DB,
) -> dict[str, ShapeResult]:
    """Run every length through the saved files, by decimal name; one that fails is a result with its reason, never an exception.

    files: `model_prefill_fp16.pt` and `model_decode_fp16.pt`, or one of them (the guide's `--mode`): without the decode file no steps are run,
    without the prefill file the student fills the cache. prompt_ids is tiled where it is shorter than the longest length. steps: teacher-forced
    decode steps after each length, fewer where the rope tables end. latent_slots: of a latent span after each length, fewer likewise.
    Raises ContractError if a file is not TorchScript.
    Memory: the weights of the student and of both files in fp32, and the file's own logits [T, V] fp32 of the longest length (0.8 GB for
    4096 × 49152); the student's are made and compared a slice at a time. 4.4 GB at most for a 135 M model.
    """
    limit = student.arch.max_position
    results = {str(length): _rejected(f"length {length} is beyond the model's {limit} positions") for length in lengths}
    fitting = {length: min(steps[length], limit - length) if DECODE in files else 0 for length in lengths if length <= limit}
    if not fitting:
        return results
    prefill, decode = (load_torchscript(files[name]) if name in files else None for name in (PREFILL, DECODE))
    task.note("eager reference")
    with torch.inference_mode():
        reference = _Reference.of(student, prompt_ids, max(length + after for length, after in fitting.items()))
        for length, after in fitting.items():
            slots = min(latent_slots, limit - length) if decode else 0
            shape = _Shape(length, after, slots, reference, prefill, decode)
            try:
                results[str(length)] = _judged(shape.run(task), min_psnr_db)
            except Exception as problem:  # what fails inside TorchScript arrives as RuntimeError, MemoryError or IndexError
                results[str(length)] = _rejected(f"{type(problem).__name__}: {str(problem).strip().splitlines()[-1]}")
            task.advance(length)
    return results


@dataclass(frozen=True)
class _Reference:
    """The eager student on one sequence. ids: int32 [1, N]; hidden: fp32 [1, N, d] after the final norm."""

    student: Student
    ids: Tensor
    hidden: Tensor

    @staticmethod
    def of(student: Student, prompt_ids: Sequence[int], length: int) -> _Reference:
        tiled = torch.tensor(prompt_ids, dtype=torch.int32).repeat(math.ceil(length / len(prompt_ids)))[None, :length]
        return _Reference(student, tiled, student.hidden(tiled))

    def logits(self, start: int, end: int) -> Tensor:
        """[end - start, V] fp32 for positions start … end."""
        return self.student.logits(self.hidden[0, start:end])

    def halt(self, position: int) -> Tensor | None:
        """[1, 2] fp32, or None without the head."""
        return self.student.halt(self.hidden[:, position]) if self.student.heads.use_halt_head else None


@dataclass(frozen=True)
class _Shape:
    """One length on the saved files, with `steps` decode steps after it, and another time `slots` latent ones."""

    length: int
    steps: int
    slots: int
    reference: _Reference
    prefill: torch.jit.ScriptModule | None
    decode: torch.jit.ScriptModule | None

    def run(self, task: Task) -> ShapeResult:
        task.note(f"T={self.length}, all positions")
        whole, halt_flips = self._forward() if self.prefill else (None, 0)
        task.note(f"T={self.length}, cached, {self.steps} decode steps")
        cached, cached_flips = self._continued()
        latent = self._latent(task) if self.slots else {}
        kl_mean, kl_max = (whole.kl_mean, whole.kl_max) if whole else (cached.kl_mean, cached.kl_max)
        return ShapeResult(
            status="ok",
            psnr_db=_finite(whole.psnr_db) if whole else None,
            kl_mean=_finite(kl_mean),
            kl_max=_finite(kl_max),
            argmax_flips=cached.argmax_flips + (whole.argmax_flips if whole else 0),
            halt_flips=halt_flips + cached_flips if self.reference.student.heads.use_halt_head else None,
            decode_steps=self.steps,
            decode_psnr_db=_finite(cached.psnr_db),
            **latent,
        )

    def _forward(self) -> tuple[Comparison, int]:
        """All positions without a cache, in a scope of its own: its logits are the largest tensor of the whole check."""
        assert self.prefill is not None
        logits, *heads = self.prefill(self.reference.ids[:, : self.length])
        return self._compared(0, logits[0]), self._halt_flips(heads, self.length - 1)

    def _continued(self) -> tuple[Comparison, int]:
        """The cache filled with T tokens, then one token at a time, always the true next one: [1 + steps] rows compared."""
        ids, end = self.reference.ids, self.length + self.steps
        positions = torch.arange(end, dtype=torch.int32)
        k_cache, v_cache, outputs = self._filled(end)
        rows, flips = [], 0
        if outputs is not None:
            logits, *heads = outputs
            rows.append(logits[0])
            flips += self._halt_flips(heads, self.length - 1)
        for position in range(self.length, end):
            assert self.decode is not None
            logits, *heads = self.decode(ids[:, position : position + 1], positions[position : position + 1], k_cache, v_cache)
            rows.append(logits[0])
            flips += self._halt_flips(heads, position)
        return self._compared(end - len(rows), torch.cat(rows)), flips

    def _filled(self, slots: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...] | None]:
        """Caches of so many slots with the T tokens in them, and what the prefill file said of the last; without the file the student fills them."""
        k_cache, v_cache = caches(self.reference.student.arch, slots)
        positions = torch.arange(self.length, dtype=torch.int32)
        given = self.reference.ids[:, : self.length], positions
        if self.prefill is None:
            self.reference.student.extend(*given, k_cache, v_cache)
            return k_cache, v_cache, None
        return k_cache, v_cache, self.prefill.prefill(*given, positions[-1:], k_cache, v_cache)

    def _latent(self, task: Task) -> dict[str, Any]:
        """Method `latent` after T tokens, fed with the student's hidden states and then, over the same slots again, with its own."""
        task.note(f"T={self.length}, {self.slots} latent slots")
        span = Span.of(self.reference.student, self.reference.ids[0, : self.length].tolist(), self.slots)
        k_cache, v_cache, _ = self._filled(self.length + self.slots)

        def step(vector: Tensor, position: int) -> dict[str, Tensor]:
            assert self.decode is not None
            logits, *_, hidden = self.decode.latent(vector[None, None], torch.tensor([position], dtype=torch.int32), k_cache, v_cache)
            return {"logits": logits[0], "hidden": hidden[0]}

        found = {"latent_psnr_db": span.forced(step), "latent_chain_psnr_db": span.chained(step)}
        decibels = {name: compare_logits(span.outputs["logits"], said["logits"]).psnr_db for name, said in found.items()}
        return {"latent_steps": self.slots} | {name: _finite(value) for name, value in decibels.items()}

    def _compared(self, start: int, logits: Tensor) -> Comparison:
        """logits: [N, V] of positions start … start + N, against the student's, sliced so that those never exist as a whole."""
        parts = []
        for rows in torch.split(logits, SLICE):
            expected = self.reference.logits(start, start + len(rows))
            parts.append((expected.abs().max().item(), compare_logits(expected, rows)))
            start += len(rows)
        return _joined(parts)

    def _halt_flips(self, heads: list[Tensor], position: int) -> int:
        """1 if the file decides otherwise than the student at `position`. heads: halt_logits [1, 2] first, where there is one."""
        expected = self.reference.halt(position)
        return 0 if expected is None else int(expected.argmax() != heads[0].argmax())


def _joined(parts: list[tuple[float, Comparison]]) -> Comparison:
    """Comparisons of slices, each with the peak of its reference, as the comparison of the whole."""
    peak = max(peak for peak, _ in parts)
    positions = sum(part.positions for _, part in parts)
    mean_square = sum((top * 10 ** (-part.psnr_db / 20)) ** 2 * part.positions for top, part in parts) / positions
    return Comparison(
        psnr_db=20 * math.log10(peak / math.sqrt(mean_square)) if mean_square else math.inf,
        max_abs=max(part.max_abs for _, part in parts),
        kl_mean=sum(part.kl_mean * part.positions for _, part in parts) / positions,
        kl_max=max(part.kl_max for _, part in parts),
        argmax_flips=sum(part.argmax_flips for _, part in parts),
        positions=positions,
        finite=all(part.finite for _, part in parts),
    )


def _judged(result: ShapeResult, min_psnr_db: float) -> ShapeResult:
    """The result, rejected with the figure where one is below the bound or not a number."""
    measured = {"forward": result.psnr_db, "prefill and decode": result.decode_psnr_db, "latent": result.latent_psnr_db}
    low = [f"{name} {value:.1f} dB" for name, value in measured.items() if value is not None and not value >= min_psnr_db]
    if not low:
        return result
    return result.model_copy(update={"status": "rejected", "error": f"{', '.join(low)}: below {min_psnr_db:g} dB of the eager student"})


def _rejected(reason: str) -> ShapeResult:
    return ShapeResult(status="rejected", error=reason)


def _finite(value: float) -> float:
    """Capped for JSON. Raises ArithmeticError for NaN: an output that is not finite has no figure."""
    if math.isnan(value):
        raise ArithmeticError("an output is not finite")
    return max(-PSNR_CAP_DB, min(value, PSNR_CAP_DB))
