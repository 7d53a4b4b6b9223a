"""Suite `latent`: every item in latent spans that end by themselves, and in text, by the same model.

Here: the two questions, the row of an item, the figures. Not here: running (eval/runners), intervals and gates (eval/statistics).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from eval.items import Item
from eval.runners.deployment import Answered, answer
from eval.scoring.answers import is_right
from eval.statistics.gates import Figure
from eval.statistics.intervals import saving, wilson
from interlock.errors import UsageError
from interlock.voice import Task
from runtime.engine.latent import LatentParams
from runtime.latent_mode import latent_params
from runtime.limits import usual_config
from runtime.load import Loaded

FIGURES = ("latent_accuracy", "latent_accuracy_deepest", "passes_saved", "text_accuracy")


@dataclass(frozen=True)
class Asked:
    """One item with both answers."""

    item: Item
    latent: Answered
    text: Answered

    def row(self) -> dict[str, Any]:
        """As it stands in `results.jsonl`."""
        ways = {"latent": self.latent, "text": self.text}
        answers = {way: {"right": is_right(self.item, said), **asdict(said)} for way, said in ways.items()}
        return {"id": self.item.id, "steps": self.item.steps, **answers}


def spans_of(loaded: Loaded) -> LatentParams:
    """Spans as the directory's own configuration says, `<bot>` after every prompt. Raises ContractError and UsageError where the model has none."""
    config = (loaded.config or usual_config(loaded.training)).model_copy(update={"latent_mode_enabled": True})
    params = latent_params(config, loaded.info, loaded.training, "the runtime configuration")
    if params.max_spans == 0:
        problem = f"{config.caws_tier.value} with max_latent_spans {config.max_latent_spans} allows no latent span"
        raise UsageError(problem, remedy="deploy with --caws-tier tier_2 or tier_3")
    return replace(params, forced=1.0)


def ask(loaded: Loaded, items: Iterable[Item], max_new_tokens: int, task: Task) -> list[Asked]:
    """Raises what `spans_of` and the runner raise."""
    latent, found = spans_of(loaded), []
    for item in items:
        task.note(item.id)
        found.append(Asked(item, answer(loaded, item, max_new_tokens, latent), answer(loaded, item, max_new_tokens)))
        task.advance()
    return found


def figures(asked: Sequence[Asked], confidence: float) -> dict[str, Figure]:
    """`latent_accuracy`, `text_accuracy`, `latent_accuracy_deepest` (of the items with the most steps), and `passes_saved`: 1 - passes of latent
    answers over passes of text answers, of items that both ways answer rightly, because a wrong answer that is short saves nothing."""
    most = max((one.item.steps for one in asked), default=0)
    both = [one for one in asked if is_right(one.item, one.latent) and is_right(one.item, one.text)]
    saved = saving([one.latent.passes for one in both], [one.text.passes for one in both], confidence) if both else None
    return {
        "latent_accuracy": _rate([(one.item, one.latent) for one in asked], confidence),
        "latent_accuracy_deepest": _rate([(one.item, one.latent) for one in asked if one.item.steps == most], confidence),
        "passes_saved": Figure(saved, len(both), "paired bootstrap"),
        "text_accuracy": _rate([(one.item, one.text) for one in asked], confidence),
    }


def summary(asked: Sequence[Asked]) -> dict[str, Any]:
    """Means for people: by number of steps, and of all."""
    groups = {str(steps): [one for one in asked if one.item.steps == steps] for steps in sorted({one.item.steps for one in asked})}
    return {"all": _means(asked), "by_steps": {steps: _means(group) for steps, group in groups.items()}}


def told(summary: dict[str, Any]) -> Iterator[str]:
    """A summary for people: a line for each number of steps."""
    for name, means in {**summary["by_steps"], "all": summary["all"]}.items():
        steps = f"{name} steps" if name != "all" else "all"
        right = f"right in latent mode {means['latent_right']:.4g}, in text {means['text_right']:.4g}"
        passes = f"{means['slots']:.3g} slots, {means['latent_passes']:.3g} passes against {means['text_passes']:.3g}"
        yield f"{steps}: {means['items']} items, {right}; {passes}"


def _rate(answers: Sequence[tuple[Item, Answered]], confidence: float) -> Figure:
    missed = tuple(item.id for item, said in answers if not is_right(item, said))
    n = len(answers)
    return Figure(wilson(n - len(missed), n, confidence) if n else None, n, "wilson", missed)


def _means(asked: Sequence[Asked]) -> dict[str, float]:
    n = len(asked)
    return {
        "items": n,
        "latent_right": sum(is_right(one.item, one.latent) for one in asked) / n,
        "text_right": sum(is_right(one.item, one.text) for one in asked) / n,
        "slots": sum(one.latent.slots for one in asked) / n,
        "latent_passes": sum(one.latent.passes for one in asked) / n,
        "text_passes": sum(one.text.passes for one in asked) / n,
    }
