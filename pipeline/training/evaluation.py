"""What held-out rows say of a student in training: loss by number of slots, and at the end everything that its report claims.

Here: figures. Not here: answers (answering.py), the report's look (pipeline/reports). Never one mean alone: a student whose slots stay unused has a
loss that looks fine, because short spans hide the long ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from eval.statistics.probabilities import auc, brier, ece, reliability
from pipeline.training import answering, code_mode, step
from pipeline.training.answering import Answer
from pipeline.training.examples import Example
from pipeline.training.latent import run_span
from pipeline.training.model import Trained
from pipeline.training.settings import Settings

# Rows of each number of slots that a loss in between is of: 2 % of its standard deviation at worst, for a second of work.
LOSS_ROWS = 128
# Rows of each number of steps that are answered in between: ±10 % at worst, for half a second of work with a small student.
ANSWER_ROWS = 100
# Rows with longer texts are not: a word for word answer of so many tokens costs much and tells little.
ANSWER_TOKENS = 64


@torch.inference_mode()
def losses(trained: Trained, rows: Sequence[Example], settings: Settings) -> dict[str, float]:
    """Nats per token of text, by the number of steps that are in slots instead (`0`: all in words)."""
    most = max(len(row.steps) for row in rows) if settings.latent and trained.control != "direct" else 0
    found = {}
    for replaced in range(most + 1):
        asked = [row for row in rows if len(row.steps) >= replaced][:: max(1, len(rows) // LOSS_ROWS)][:LOSS_ROWS]
        if trained.control == "direct":
            asked = [Example(row.id, row.prompt, (), row.answer) for row in asked]
        text = step.cost(trained, [replace(row, rejected=()) for row in asked], replaced)["ce"]
        found[str(replaced)] = text.total.item() / text.count.item()
    return found


def answers(trained: Trained, rows: Sequence[Example], decode: Callable[[Sequence[int]], str] | None) -> dict[str, Any]:
    """What an evaluation in between adds to the log: `accuracy` by way of answering and number of steps, and with `decode` as `samples` what was said
    to a row with most steps, in each way. Short texts are asked; of pairs, long or short, the share whose preferred answer the student prefers."""
    pairs = preferences(trained, rows)
    short = [row for row in rows if len(row.tail(0)) <= ANSWER_TOKENS]
    asked = [row for depth in sorted({len(row.steps) for row in short}) for row in [row for row in short if len(row.steps) == depth][:ANSWER_ROWS]]
    if not asked:
        return {"accuracy": pairs} if pairs else {}
    said = [Example(row.id, row.prompt, (), row.answer) for row in asked] if trained.control == "direct" else asked
    found: dict[str, list[Answer]] = {}
    if trained.control != "pause":
        found["text"] = answering.in_text(trained, said)
    if trained.spans:
        found["spans"] = answering.in_spans(trained, asked, [len(row.steps) * trained.slots_per_step for row in asked])
    accuracy = {way: by_depth(asked, got) for way, got in found.items()} | pairs
    if decode is None:
        return {"accuracy": accuracy}
    last = {"id": asked[-1].id, "wanted": decode(asked[-1].answer)}
    samples = [{**last, "way": way, "said": decode(got[-1].said), "right": got[-1].right} for way, got in found.items()]
    return {"accuracy": accuracy, "samples": samples}


def preferences(trained: Trained, rows: Sequence[Example]) -> dict[str, dict[str, float]]:
    """The share of pairs whose preferred answer the student prefers, by number of steps, at most ANSWER_ROWS of each; empty where there are none."""
    pairs = [row for row in rows if row.rejected]
    depths = sorted({len(row.steps) for row in pairs})
    asked = {depth: [row for row in pairs if len(row.steps) == depth][:ANSWER_ROWS] for depth in depths}
    shares = {str(depth): float(np.mean(code_mode.preferred(trained.student, some, trained.special))) for depth, some in asked.items()}
    return {code_mode.WAY: shares} if shares else {}


def by_depth(rows: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
    """The share of right answers, by the number of a row's steps."""
    depths = sorted({len(row.steps) for row in rows})
    return {str(k): float(np.mean([one.right for row, one in zip(rows, answers, strict=True) if len(row.steps) == k])) for k in depths}


@torch.inference_mode()
def monitors(trained: Trained, rows: Sequence[Example], slots_per_step: int) -> dict[str, float]:
    """What the slots of the deepest rows look like, of at most ROWS of them: the mean `cosine` between what one slot and the next are fed (near 1:
    they collapse into one; absent where a span has one slot), its `norm_ratio` to a token's embedding, `step_probe`: how often the head reads the
    first token of a slot's step off it. Raises ValueError without a row that has steps."""
    depth = max(len(row.steps) for row in rows)
    deepest = [row for row in rows if len(row.steps) == depth][: answering.ROWS]
    span = run_span(trained.student, deepest, trained.special, replaced=depth, slots_per_step=slots_per_step, pause=trained.pause)
    became = span.fed[:, slots_per_step - 1 :: slots_per_step]
    first = torch.tensor([[one[0] for one in row.steps] for row in deepest])
    cosines = F.cosine_similarity(span.fed[:, 1:], span.fed[:, :-1], dim=-1)
    return {
        **({"cosine": cosines.mean().item()} if cosines.numel() else {}),
        "norm_ratio": (span.fed.norm(dim=-1).mean() / trained.student.embed.weight.norm(dim=-1).mean()).item(),
        "step_probe": (trained.student.logits(became).argmax(-1) == first).float().mean().item(),
    }


def self_halted(trained: Trained, rows: Sequence[Example], most: int, threshold: float) -> tuple[list[Answer], dict[str, float]]:
    """Answers after spans that the halt head ended, and figures of its decisions: `auc`, `brier` and `ece` over steps up to the last that is needed,
    `exact` (share of spans as long as the row has steps), `slots` and `steps` (means). The head is asked after whole steps, where it was taught."""
    each = trained.slots_per_step
    asked = answering.in_spans(trained, rows, [most] * len(rows))
    said = [one.halts[each - 1 :: each] for one in asked]
    chosen = [next((each * (step + 1) for step, p in enumerate(ps) if p >= threshold), most) for ps in said]
    steps = [len(row.steps) for row in rows]
    needed = [each * count for count in steps]
    scores = np.array([p for ps, count in zip(said, steps, strict=True) for p in ps[:count]])
    truth = np.array([step + 1 == count for count in steps for step in range(count)])
    figures = {"auc": float(auc(scores, truth)), "brier": float(brier(scores, truth)), "ece": float(ece(scores, truth))}
    figures |= {"exact": float(np.mean([a == b for a, b in zip(chosen, needed, strict=True)]))}
    figures |= {"slots": float(np.mean(chosen)), "steps": float(np.mean(needed))}
    return answering.in_spans(trained, rows, chosen), figures | _calibration(scores, truth)


def _calibration(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> dict[str, float]:
    """The points of a reliability plot: per bin its `rows`, the mean probability `said`, and the share `true`."""
    found: dict[str, float] = {}
    for number, (rows, said, true) in enumerate(reliability(scores, truth)):
        found |= {f"bin {number} rows": rows, f"bin {number} said": said, f"bin {number} true": true}
    return found
