"""What training under a package's rounding is worth: one small student plain and under int4, both stored in int4, on the same held-out rows.

Here: the experiment and its table. Run: `envs/train/.venv/bin/python -m benchmarks.quantization --seeds 0 1 2` (a minute of one core for each).
All trainings of a seed have the same start, rows and order. What a conversion stores is computed by its own function
(pipeline/coreml/compression/symmetric.py; tests compare it with packages). A pair is one test row, answered by both students as they are stored:
exact McNemar, one-sided. Exit 1 where the student that was trained under rounding has the greater loss.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import entry
from interlock import command

if TYPE_CHECKING:
    from pipeline.training.settings import Quantization

TASK: dict[str, bool | int | float | str] = {"train": 4000, "validation": 120, "test": 600, "depths": "1..6"}
STEPS = 400
# Elements per scale: that of a conversion, and a whole row.
GROUPS = (32, 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.quantization`."""
    given = command.words(argv)
    parser = command.parser("benchmarks.quantization", "what training under int4 is worth", "python -m benchmarks.quantization --seeds 0 1 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of data, weights and order (default 0 1 2)")
    missed: list[int] = []
    code = entry.run(parser, given, _measure, lambda report: _table(report, missed))
    return code or int(bool(missed))


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return {str(seed): _of_seed(seed, Path(folder) / str(seed)) for seed in options.seeds}


def _of_seed(seed: int, folder: Path) -> dict[str, Any]:
    from eval.statistics.paired import mcnemar
    from interlock.voice import SilentVoice
    from pipeline.driver import stage
    from pipeline.stages import data
    from pipeline.training.settings import Quantization

    rows = data.Params(task="permutation-automaton", out=folder / "rows", seed=seed, parameters=TASK)
    stage.run(data.STAGE, rows, SilentVoice())
    exact, _ = _trained(folder, seed, None, None)
    found: dict[str, Any] = {"exact": exact}
    for group in GROUPS:
        under = Quantization(method="int4", group=group)
        (plain, before), (learnt, after) = (_trained(folder, seed, how, group) for how in (None, under))
        found[str(group)] = {"plain": plain, "under": learnt, "p": mcnemar(after, before)}
    return found


def _trained(folder: Path, seed: int, under: Quantization | None, group: int | None) -> tuple[dict[str, float], list[bool]]:
    """Loss per token of the test rows and share of right answers, and which are right, of a student that was trained `under` a rounding and is stored
    in int4 with `group` elements per scale; None: as it is."""
    import torch

    from interlock.contracts.checkpoint import CheckpointContract
    from interlock.contracts.dataset import DatasetContract
    from interlock.voice import SilentVoice
    from pipeline.coreml.compression.symmetric import stored
    from pipeline.coreml.compression.touched import matrices
    from pipeline.datasets.reading import read_split
    from pipeline.driver import stage
    from pipeline.stages import train
    from pipeline.training import answering, encoding, evaluation
    from pipeline.training.model import Trained
    from pipeline.training.settings import Settings
    from runtime.engine.tokenizer import Tokenizer
    from runtime.student.checkpoint import load_student

    voice = SilentVoice()
    out = folder / f"checkpoint-{under.group if under else 'plain'}"
    settings = Settings(steps=STEPS, lr=3e-3, seed=seed, evaluate_every=STEPS, quantization=under)
    if not out.exists():
        scratch = train.Scratch(d_model=64, n_heads=2, n_kv_heads=2, d_ff=128)
        stage.run(train.STAGE, train.Params(dataset=folder / "rows", out=out, scratch=scratch, settings=settings), voice)
    contract = stage.read_whole(out, CheckpointContract, voice)
    assert contract.tokenizer is not None
    student = load_student(out, contract)
    if group is not None:
        for weight in matrices(student).values():
            weight.data = stored(weight.data, 4, group)
    tokenizer = Tokenizer.load(out, contract.tokenizer)
    test = read_split(folder / "rows", stage.read_whole(folder / "rows", DatasetContract, voice), "test", voice)
    rows = encoding.encoded(test, tokenizer, contract.arch.max_position, "test", voice)
    asked = Trained(student, Settings(steps=1), encoding.special_of(contract.tokenizer, spans=False))
    with torch.inference_mode():
        right = [one.right for one in answering.in_text(asked, rows)]
        loss = sum(evaluation.losses(asked, rows, settings).values())
    return {"loss": loss, "right": sum(right) / len(right)}, right


def _table(report: dict[str, Any], missed: list[int]) -> list[str]:
    lines = [f"{TASK['test']} held-out rows of depth {TASK['depths']}, in words: nats per token, share of right answers", ""]
    lines.append(f"{'seed':>4}{'scale for':>12}{'exact':>16}{'plain, int4':>16}{'under, int4':>16}{'p':>10}")
    for seed, found in report.items():
        for group in map(str, GROUPS):
            one = found[group]
            cells = [f"{way['loss']:.4f} {way['right']:.3f}" for way in (found["exact"], one["plain"], one["under"])]
            lines.append(f"{seed:>4}{'a row' if group == '0' else group:>12}" + "".join(f"{cell:>16}" for cell in cells) + f"{one['p']:>10.1e}")
            if one["under"]["loss"] > one["plain"]["loss"]:
                missed.append(int(seed))
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
