"""How a student was trained: what its contract says, in words, and the curves of its log.

Here: facts, the table of accuracies, curves thinned out for a page. Not here: geometry (charts.py), measuring (pipeline/training).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import Box
from rich.table import Table
from rich.text import Text

from interlock.contracts.base import Contract, Frozen
from interlock.contracts.checkpoint import CheckpointContract, Training
from interlock.contracts.export import ExportContract
from interlock.errors import ContractError
from interlock.voice import plain
from pipeline.reports.training_log import lines_of
from pipeline.training.told import Line

# Of a curve on a page: more than its width has pixels to tell apart.
MOST_POINTS = 200
BIN = "bin "
# What figures of a halt head that reads slots are called; others are shown by their own names.
FIGURES = {
    "auc": "AUC",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
    "exact": "share of spans as long as needed",
    "slots": "slots used on average",
    "steps": "slots needed on average",
}
MONITORS = {"cosine": "cosine from one to the next", "norm_ratio": "norm over that of an embedding", "step_probe": "share whose step can be read off"}
HELPS = {
    True: "shown: on the rows with most steps they answer more than every control and every intervention, each by a paired test",
    False: "not shown: some control or intervention answers as much on the rows with most steps, as far as a paired test can tell",
    None: "not claimed: no control was trained beside the student",
}


class Curve(Frozen):
    """Steps and values, at most MOST_POINTS: each the mean of the neighbours that it stands for."""

    name: str
    points: tuple[tuple[int, float], ...]


class Curves(Frozen):
    """`losses` of batches, each part's and their weighted sum; `validation` loss by number of slots; `accuracy` by way of answering, in each by
    number of steps; `rate`: the learning rate."""

    losses: tuple[Curve, ...]
    validation: tuple[Curve, ...]
    accuracy: dict[str, tuple[Curve, ...]]
    rate: Curve


class Trained(Frozen):
    """One training of a lineage. `kind` and `digest` are of the artifact that tells of it; curves are None where its log is not at hand, and where it
    is and cannot be shown `problem` says why."""

    kind: str
    digest: str
    training: Training
    curves: Curves | None = None
    problem: str | None = None

    @property
    def helps(self) -> str:
        """Whether latent spans help, in words; empty for a student without them."""
        return HELPS[self.training.latent.helps] if self.training.latent else ""

    @property
    def depths(self) -> list[str]:
        return depths_of(self.training)

    @property
    def deepest(self) -> list[tuple[str, float]]:
        """The share of right answers on the rows with most steps, in words and in spans."""
        accuracy = self.training.accuracy
        return [(way, accuracy[way][self.depths[-1]]) for way in ("text", "spans") if self.depths and self.depths[-1] in accuracy.get(way, {})]

    @property
    def reliability(self) -> tuple[tuple[int, float, float], ...]:
        """Of the halt head: rows, mean probability and share that came true, by bin."""
        return reliability_of(self.training)


def trainings_of(artifacts: Iterable[tuple[Contract, Path | None]]) -> tuple[Trained, ...]:
    """Every training that the contracts of a lineage tell of; an export's own account counts where its checkpoint is not at hand."""
    pairs = list(artifacts)
    found = [
        _of_checkpoint(contract, path, contract.training)
        for contract, path in pairs
        if isinstance(contract, CheckpointContract) and contract.training
    ]
    if found or any(isinstance(contract, CheckpointContract) for contract, _ in pairs):
        return tuple(found)
    exports = [contract for contract, _ in pairs if isinstance(contract, ExportContract)]
    return tuple(Trained(kind="export", digest=one.digest, training=one.training) for one in exports if one.training)


def _of_checkpoint(contract: CheckpointContract, path: Path | None, training: Training) -> Trained:
    told = Trained(kind="checkpoint", digest=contract.digest, training=training)
    try:
        lines = lines_of(path, contract) if path else []
    except ContractError as error:
        return told.model_copy(update={"problem": error.problem})
    return told.model_copy(update={"curves": curves_of(lines)}) if lines else told


def curves_of(lines: Sequence[Line]) -> Curves:
    """The curves of a log with at least one line."""
    parts = sorted({name for line in lines for name in line.losses})
    asked = [line for line in lines if line.validation is not None]
    slots = sorted({name for line in asked for name in line.by_slots}, key=_number)
    ways = {way: sorted({depth for line in asked for depth in line.accuracy.get(way, {})}, key=_number) for line in asked for way in line.accuracy}
    return Curves(
        losses=(
            _curve("total", ((line.step, line.total) for line in lines)),
            *(_curve(name, ((line.step, line.losses.get(name)) for line in lines)) for name in parts),
        ),
        validation=tuple(_curve(counted(name, "slot"), ((line.step, line.by_slots.get(name)) for line in asked)) for name in slots),
        accuracy={
            way: tuple(_curve(counted(depth, "step"), ((line.step, line.accuracy.get(way, {}).get(depth)) for line in asked)) for depth in depths)
            for way, depths in ways.items()
        },
        rate=_curve("learning rate", ((line.step, line.lr) for line in lines)),
    )


def _curve(name: str, values: Iterable[tuple[int, float | None]]) -> Curve:
    return Curve(name=name, points=thinned([(step, value) for step, value in values if value is not None]))


def thinned(points: Sequence[tuple[int, float]], most: int = MOST_POINTS) -> tuple[tuple[int, float], ...]:
    """At most `most` points: runs of neighbours as equal as can be, each as its mean, where it ends. Of a value six digits: those after them differ
    between machines."""
    if not points:
        return ()
    count = min(most, len(points))
    runs = [points[len(points) * number // count : len(points) * (number + 1) // count] for number in range(count)]
    return tuple((run[-1][0], float(f"{sum(value for _, value in run) / len(run):.6g}")) for run in runs)


def training_rows(training: Training) -> list[tuple[str, str]]:
    """Facts for a checkpoint's grid."""
    losses = ", ".join(f"{name} {weight:g}" for name, weight in training.losses.items()) or "none"
    rows = [("trained", f"{training.steps} steps, seed {training.seed}, losses by weight: {losses}")]
    if lora := training.lora:
        where = ", ".join(lora.targets) + (f"; {', '.join(lora.whole)} whole" if lora.whole else "")
        size = f"rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}"
        rows.append(("adapters", f"{size}, on {where}: {lora.trained:,} elements were trained, and merged"))
    if quantization := training.quantization:
        scales = f"a scale for {quantization.group} elements" if quantization.group else "a scale for a row"
        rows.append(("stored as", f"{quantization.method} with {scales}: trained under that rounding, and stored so without a change"))
    if latent := training.latent:
        slots = f"{latent.slots_per_step} for each step, up to {latent.max_slots}"
        rows += [("latent spans", f"{slots}, {latent.schedule}"), ("that they help", HELPS[latent.helps])]
        rows += (
            [("slots", ", ".join(f"{MONITORS.get(name, name)} {value:.3g}" for name, value in latent.monitors.items()))] if latent.monitors else []
        )
    if halt := training.halt:
        where = {"slot": "at slots", "sentence_end": "where a sentence or line ends"}[halt.reads]
        figures = "".join(f", {FIGURES.get(name, name)} {value:.4g}" for name, value in halt.evidence.items() if not name.startswith(BIN))
        rows.append(("halt head", f"read {where}, obeyed from {halt.threshold:g} on{figures}"))
    return rows


def accuracy_table(training: Training, box: Box) -> Table:
    """Share of right answers: a line for each way of answering, a column for each number of steps, and what an answer takes."""
    title = f"right answers by number of steps, of {training.asked} held-out rows"
    table = Table(box=box, title=title, title_justify="left", min_width=len(title))
    table.add_column("way of answering")
    depths = depths_of(training)
    for depth in [*depths, "tokens", "passes"]:
        table.add_column(Text(plain(depth)), justify="right")
    for way, shares in training.accuracy.items():
        costs = (mean(training.tokens.get(way)), mean(training.passes.get(way)))
        table.add_row(Text(plain(way)), *(Text(percent(shares.get(depth))) for depth in depths), *map(Text, costs))
    table.caption = "tokens and passes: what an answer has and takes on average"
    return table


def depths_of(training: Training) -> list[str]:
    """The numbers of steps that were asked, as the contract names them, in order."""
    return sorted({depth for shares in training.accuracy.values() for depth in shares}, key=_number)


def reliability_of(training: Training) -> tuple[tuple[int, float, float], ...]:
    """The points of the halt head's reliability plot, as evaluation.self_halted names them; none where a figure is missing."""
    evidence = training.halt.evidence if training.halt else {}
    found: list[tuple[int, float, float]] = []
    while (rows := evidence.get(f"{BIN}{len(found)} rows")) is not None:
        said, true = (evidence.get(f"{BIN}{len(found)} {name}") for name in ("said", "true"))
        if said is None or true is None:
            return ()
        found.append((int(rows), said, true))
    return tuple(found)


def counted(count: str, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {noun}{'' if count == '1' else 's'}"


def mean(amount: float | None) -> str:
    """`12.3`; a dash for what was not counted."""
    return "–" if amount is None else f"{amount:.1f}"


def percent(share: float | None) -> str:
    """`98.7 %`; a dash for what was not asked. Only all of the rows are 100 %."""
    if share is None:
        return "–"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def _number(text: str) -> tuple[int, str]:
    """Numbers in order, then texts."""
    return (int(text), "") if text.isascii() and text.isdigit() and len(text) < 10 else (1 << 31, text)
