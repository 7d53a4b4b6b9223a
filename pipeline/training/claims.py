"""What a finished training may say of itself: how well each way of answering does on the same held-out rows, and whether spans help.

Here: asking, the paired tests, the claim. Not here: answers (answering.py), figures of the halt head (evaluation.py), tables (pipeline/reports).
Spans are said to help only if they beat every control that was trained and every intervention: a curriculum alone can do what looks like reasoning
(pause tokens reach 96.6 % where Coconut reaches 97.0 %), and slots that are not used leave interventions without effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean as mean

from eval.statistics.paired import mcnemar
from interlock.contracts.checkpoint import HaltTraining, LatentTraining, LoraTraining, QuantizedTraining, Training
from interlock.voice import Task
from pipeline.training import answering, code_mode, evaluation
from pipeline.training.answering import Answer
from pipeline.training.examples import Example
from pipeline.training.model import Trained
from pipeline.training.quantization import group_of
from pipeline.training.settings import Settings

# Of each comparison, Holm's correction over all of them.
SIGNIFICANCE = 0.01
HALT_THRESHOLD = 0.7  # the guide's default for a head that declares none


# Held-out rows of each number of steps that claims are of: a share of 0.99 is known to ±0.9 %, after seconds.
ROWS_OF_A_DEPTH = 500


def chosen(held_out: Sequence[Example]) -> list[Example]:
    """The rows that are asked: as many of each number of steps, in their order."""
    count: dict[int, int] = {}
    found = []
    for row in held_out:
        count[len(row.steps)] = count.get(len(row.steps), 0) + 1
        if count[len(row.steps)] <= ROWS_OF_A_DEPTH:
            found.append(row)
    return found


@dataclass(frozen=True)
class Asked:
    """One way of answering: an answer for every row."""

    way: str
    answers: list[Answer]


def asked(
    trained: Trained, rows: Sequence[Example], settings: Settings, controls: Mapping[str, Trained], task: Task
) -> tuple[list[Asked], dict[str, float]]:
    """The rows answered in every way that this training can be asked, and the figures of its halt head (empty without one)."""
    found: list[Asked] = []

    def add(way: str, answers: list[Answer]) -> None:
        found.append(Asked(way, answers))
        task.note(way)
        task.advance()

    add("text", answering.in_text(trained, rows))
    if settings.latent is None:
        return found, {}
    slots = [len(row.steps) * settings.latent.slots_per_step for row in rows]
    add("spans", answering.in_spans(trained, rows, slots))
    halts: dict[str, float] = {}
    if trained.halts:
        answers, halts = evaluation.self_halted(trained, rows, max(slots), HALT_THRESHOLD)
        add("spans, self-halted", answers)
    for kind in answering.INTERVENTIONS:
        feed = answering.tampering(kind, settings.seed)
        add(f"spans, {kind}", answering.in_spans(trained, rows, slots, feed))
    for name, control in controls.items():
        if name == "direct":
            short = [Example(row.id, row.prompt, (), row.answer) for row in rows]
            add("control direct", answering.in_text(control, short))
        else:
            add("control pause", answering.in_spans(control, rows, slots))
    return found, halts


def training(trained: Trained, settings: Settings, steps: int, rows: Sequence[Example], ways: Sequence[Asked], halts: dict[str, float]) -> Training:
    """The part of the contract that says how the weights came about."""
    latent, lora, quantization = settings.latent, settings.lora, settings.quantization
    most = max(len(row.steps) for row in rows)
    return Training(
        losses={name: weight for name, weight in _weights(settings).items() if weight and (latent or name not in ("step", "halt"))},
        seed=settings.seed,
        steps=steps,
        latent=LatentTraining(
            schedule=latent.schedule,
            slots_per_step=latent.slots_per_step,
            max_slots=most * latent.slots_per_step,
            step_loss=settings.weights.step,
            helps=helps(rows, ways) if latent.controls else None,
            monitors=_rounded(evaluation.monitors(trained, rows, latent.slots_per_step)),
        )
        if latent
        else None,
        halt=HaltTraining(reads="slot", threshold=HALT_THRESHOLD, backbone=None, evidence=_rounded(halts)) if halts else None,
        asked=len(rows),
        accuracy={one.way: _rounded(evaluation.by_depth(rows, one.answers)) for one in ways}
        | {way: _rounded(shares) for way, shares in evaluation.preferences(trained, rows).items()},
        tokens=_rounded({one.way: mean(answer.tokens for answer in one.answers) for one in ways}),
        passes=_rounded({one.way: mean(answer.tokens + answer.slots for answer in one.answers) for one in ways}),
        lora=LoraTraining(**lora.model_dump(), trained=trained.trained) if lora else None,
        quantization=QuantizedTraining(method=quantization.method, group=group_of(quantization)) if quantization else None,
    )


def _weights(settings: Settings) -> dict[str, float]:
    """Of every loss, the one that grows at its last."""
    weights: dict[str, float] = settings.weights.model_dump()
    return weights | ({code_mode.LOSS: settings.code_mode.weight} if settings.code_mode else {})


def helps(rows: Sequence[Example], ways: Sequence[Asked]) -> bool:
    """Whether, on rows of the greatest depth, spans answer more than every other way that is no text: exact McNemar, one-sided, Holm."""
    deepest = max(len(row.steps) for row in rows)
    places = [number for number, row in enumerate(rows) if len(row.steps) == deepest]
    by_way = {one.way: [one.answers[number].right for number in places] for one in ways}
    others = [right for way, right in by_way.items() if way.startswith(("spans, ", "control ")) and way != "spans, self-halted"]
    values = sorted(mcnemar(by_way["spans"], right) for right in others)
    return bool(values) and all(value <= SIGNIFICANCE / (len(values) - number) for number, value in enumerate(values))


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Six digits: what follows them depends on the order of sums."""
    return {name: round(value, 6) for name, value in figures.items()}
