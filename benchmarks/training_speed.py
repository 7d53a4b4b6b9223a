"""How fast a training step is beside the same model in a plain PyTorch loop, and what data and logging add to it.

Here: both loops in turns, and the table. Run: `envs/train/.venv/bin/python -m benchmarks.training_speed`. The plain loop is what a person writes in a
notebook: ids in one tensor, the student's own forward pass, torch's cross-entropy, AdamW. Ratios are of steps that were taken one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import entry
from interlock import command

# Width, layers, vocabulary, tokens of a row, rows of a batch.
MODELS = {"0.5 M": (128, 2, 320, 24, 64), "6.9 M": (256, 6, 4096, 256, 4), "33 M": (576, 6, 8192, 128, 2)}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.training_speed`."""
    given = command.words(argv)
    parser = command.parser("benchmarks.training_speed", "a training step beside a plain loop", "python -m benchmarks.training_speed --rounds 12")
    parser.add_argument("--rounds", type=int, default=12, help="steps of each loop, in turns (%(default)s)")
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS], help="sizes (default all)")
    return entry.run(parser, given, _measure, _table)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    return {"rounds": options.rounds, "models": {name: _one(*MODELS[name], options.rounds) for name in options.models}}


def _one(width: int, layers: int, vocabulary: int, tokens: int, batch: int, rounds: int) -> dict[str, float]:
    import torch

    from interlock.contracts.checkpoint import Arch, ModelArch
    from pipeline.training.batches import Batches, shares
    from pipeline.training.examples import Example, Special
    from pipeline.training.model import Trained
    from pipeline.training.ranks import Ranks
    from pipeline.training.settings import Settings
    from pipeline.training.step import take
    from runtime.student.checkpoint import random_student

    arch = Arch(
        d_model=width, n_layers=layers, n_heads=width // 32, n_kv_heads=width // 32, d_head=32, d_ff=3 * width, vocab_size=vocabulary,
        rope_theta=1e4, norm_eps=1e-5, tie_embeddings=False, max_position=1024,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(4, vocabulary, (batch * 8, tokens), generator=draw)
    rows = [Example(str(number), tuple(row[:1].tolist()), (), tuple(row[1:].tolist())) for number, row in enumerate(ids)]
    settings = Settings(steps=10_000, batch=batch)
    trained = Trained(random_student(arch, ModelArch(), 0), settings, Special(pad=0))
    plain = random_student(arch, ModelArch(), 0)
    ours, theirs = (torch.optim.AdamW(one.parameters(), lr=1e-3) for one in (trained, plain))
    batches = Batches(rows, batch, 0)
    whole, micro = ids[:batch], list(rows[:batch])

    def plain_step() -> None:
        logits = plain.logits(plain.hidden(whole[:, :-1]))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), whole[:, 1:].flatten())
        theirs.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        theirs.step()
        loss.item()

    def our_step() -> None:
        take(trained, ours, [micro], 0, settings, Ranks(), "step")

    def data() -> None:
        shares(batches.at(5), batch)

    steps: dict[str, Callable[[], None]] = {"plain": plain_step, "ours": our_step, "data": data}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):  # the first round warms up
        for name, step in steps.items():
            started = time.process_time()
            step()
            if number:
                times[name].append(time.process_time() - started)
    ratios = [plain_s / ours_s for plain_s, ours_s in zip(times["plain"], times["ours"], strict=True)]
    return {
        "plain_ms": 1e3 * statistics.median(times["plain"]),
        "ours_ms": 1e3 * statistics.median(times["ours"]),
        "speed": statistics.median(ratios),
        "data_share": statistics.median(times["data"]) / statistics.median(times["ours"]),
    }


def _table(report: dict[str, Any]) -> list[str]:
    lines = [f"medians of {report['rounds']} steps in turns, one thread, processor time"]
    lines.append(f"{'model':<8}{'plain ms':>10}{'ours ms':>10}{'speed':>8}{'data':>8}")
    for name, one in report["models"].items():
        lines.append(f"{name:<8}{one['plain_ms']:>10.1f}{one['ours_ms']:>10.1f}{one['speed']:>7.2f}x{one['data_share']:>8.2%}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
