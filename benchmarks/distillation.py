"""Does a teacher help? One small student three times, on the same held-out rows: from labels alone, from a teacher's words, from words and thoughts.

Here: the experiment and its table. Run: `envs/train/.venv/bin/python -m benchmarks.distillation --seeds 0 1 2` (two minutes of one core for each).
A few rows have labels; the teacher is a larger student that was trained on many. It answers prompts without labels (stage `teach`), and the student
learns labels and answers: `words` by cross-entropy alone, `thoughts` also by KL to the stored top k. All students start from the same weights.
A pair is one test row, answered by the student from labels and by the one with a teacher: exact McNemar, one-sided, and a bootstrap over rows of the
share of the gap to the teacher that is closed. Exit 1 where less than half of it is closed, at the lower end of 95 %, or p > 0.05.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import entry
from interlock import command

if TYPE_CHECKING:
    from pipeline.training.examples import Example
    from pipeline.training.model import Trained

LABELLED, ASKED, TEST = 200, 4000, 600
TASK = {"train": LABELLED + ASKED, "validation": 120, "test": TEST}
TEACHER_ROWS = 16_000
STEPS = 500
TOP_K = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.distillation`."""
    given = command.words(argv)
    parser = command.parser("benchmarks.distillation", "what a teacher adds to few labels", "python -m benchmarks.distillation --seeds 0 1 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of data, weights and order (default 0 1 2)")
    missed: list[int] = []
    code = entry.run(parser, given, _measure, lambda report: _table(report, missed))
    return code or int(bool(missed))


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return {str(seed): _of_seed(seed, Path(folder) / str(seed)) for seed in options.seeds}


def _of_seed(seed: int, folder: Path) -> dict[str, Any]:
    """Which test rows each student gets right, and how much of the gap a teacher closes."""
    import numpy as np

    from interlock.contracts.checkpoint import CheckpointContract
    from interlock.contracts.dataset import DatasetContract
    from interlock.voice import SilentVoice
    from pipeline.datasets.reading import read_split
    from pipeline.driver.stage import read_whole
    from pipeline.training import answering, encoding
    from pipeline.training.teaching import targets
    from runtime.engine.tokenizer import Tokenizer
    from runtime.student.checkpoint import load_student

    voice = SilentVoice()
    _stages(seed, folder)
    contract = read_whole(folder / "taught", DatasetContract, voice)
    teacher = read_whole(folder / "teacher", CheckpointContract, voice)
    assert teacher.tokenizer is not None
    tokenizer = Tokenizer.load(folder / "teacher", teacher.tokenizer)
    special = encoding.special_of(teacher.tokenizer, spans=False)
    rows = {name: read_split(folder / "taught", contract, name, voice) for name in contract.splits}
    labelled = [row.model_copy(update={"response": None}) for row in rows["train"][:LABELLED]]
    few, validation, test = (
        encoding.encoded(some, tokenizer, teacher.arch.max_position, "rows", voice) for some in (labelled, rows["validation"], rows["test"])
    )
    kept = targets.of(folder / "taught", contract, teacher.tokenizer)
    answered = encoding.encoded(rows["train"][LABELLED:], tokenizer, teacher.arch.max_position, "rows", voice, kept)

    def right(trained: Trained) -> list[bool]:
        return [one.right for one in answering.in_text(trained, test)]

    def student(train: list[Example], kl: float) -> list[bool]:
        return right(_student(teacher, special, train, _in_words(validation), kl, seed))

    from pipeline.training.model import Trained as Model
    from pipeline.training.settings import Settings

    found = {
        "teacher": right(Model(load_student(folder / "teacher", teacher), Settings(steps=1), special)),
        "labels": student(_in_words(few), 0.0),
        "words": student([*_in_words(few), *answered], 0.0),
        "thoughts": student([*_in_words(few), *answered], 0.5),
    }
    shares = {name: float(np.mean(answers)) for name, answers in found.items()}
    return {"right": shares, **{name: _compared(found, name, seed) for name in ("words", "thoughts")}}


def _stages(seed: int, folder: Path) -> None:
    """Rows, the teacher, and its answers, by the stages that everybody uses."""
    from interlock.voice import SilentVoice
    from pipeline.driver import stage
    from pipeline.stages import data, teach, train
    from pipeline.training.settings import Settings

    voice = SilentVoice()
    for name, rows, own in (("many", {**TASK, "train": TEACHER_ROWS}, seed + 1000), ("few", TASK, seed)):
        params = data.Params(task="permutation-automaton", out=folder / name, seed=own, parameters={**rows, "depths": "1..6"})
        stage.run(data.STAGE, params, voice)
    settings = Settings(steps=STEPS, lr=1.5e-3, seed=seed, evaluate_every=STEPS)
    stage.run(train.STAGE, train.Params(dataset=folder / "many", out=folder / "teacher", scratch=train.Scratch(), settings=settings), voice)
    asked = teach.Params(dataset=folder / "few", teacher=str(folder / "teacher"), out=folder / "taught", top_k=TOP_K, max_new_tokens=32)
    stage.run(teach.STAGE, asked, voice)


def _student(teacher: Any, special: Any, train: list[Example], validation: list[Example], kl: float, seed: int) -> Trained:
    """A student of an eighth of the teacher's parameters, at its best moment by validation."""
    from pipeline.training.loop import Data, fit
    from pipeline.training.model import Trained
    from pipeline.training.ranks import Ranks
    from pipeline.training.settings import Settings, Weights
    from runtime.student.checkpoint import random_student

    arch = teacher.arch.model_copy(update={"d_model": 64, "n_heads": 2, "n_kv_heads": 2, "d_ff": 128})
    weights = Weights(ce=1.0 - kl, kl=kl)
    settings = Settings(steps=STEPS, lr=3e-3, seed=seed, evaluate_every=50, patience=STEPS, weights=weights)
    trained = Trained(random_student(arch, teacher.model_arch, seed), settings, special)
    fit(trained, Data(train, validation, ""), settings, None, Ranks(), lambda line, tokens: None)
    return trained


def _in_words(rows: Sequence[Example]) -> list[Example]:
    """Steps and answer as one answer: rows of all depths in one batch, as a teacher's are."""
    from pipeline.training.examples import Example

    return [Example(row.id, row.prompt, (), row.tail(0)) for row in rows]


def _compared(found: dict[str, list[bool]], name: str, seed: int) -> dict[str, float]:
    """won: rows that only the student with a teacher gets right; lost: only the one without; p; the closed share of the gap, its lower end."""
    import numpy as np

    with_one, without, best = (np.array(found[key], dtype=np.float64) for key in (name, "labels", "teacher"))
    won, lost = int((with_one > without).sum()), int((with_one < without).sum())
    p = sum(comb(won + lost, k) for k in range(won, won + lost + 1)) / 2 ** (won + lost)
    draws = np.random.default_rng(seed).integers(0, len(best), (10_000, len(best)))
    gains, gaps = (with_one - without)[draws].mean(1), (best - without)[draws].mean(1)
    closed = (with_one - without).mean() / (best - without).mean()
    return {"won": won, "lost": lost, "p": float(p), "closed": float(closed), "closed_least": float(np.quantile(gains / gaps, 0.025))}


def _table(report: dict[str, Any], missed: list[int]) -> list[str]:
    lines = [f"{LABELLED} rows with labels, {ASKED} answered by the teacher, {TEST} test rows of depth 1 to 6; share of right answers", ""]
    lines.append(f"{'seed':>4}{'teacher':>9}{'labels':>9}{'words':>9}{'thoughts':>9}{'won':>6}{'lost':>6}{'p':>10}{'gap closed (95 %)':>20}")
    for seed, found in report.items():
        one = found["thoughts"]
        lines.append(
            f"{seed:>4}" + "".join(f"{found['right'][name]:>9.3f}" for name in ("teacher", "labels", "words", "thoughts"))
            + f"{one['won']:>6}{one['lost']:>6}{one['p']:>10.1e}{one['closed']:>9.0%} (≥ {one['closed_least']:.0%})"
        )  # fmt: skip
        if one["closed_least"] < 0.5 or one["p"] > 0.05:
            missed.append(int(seed))
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
