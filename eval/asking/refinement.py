"""`refinement`: every item answered once, and answered again until a judge, or without one the halt head, is content or the tier's loops are used up.

Here: the judge that a suite names, the two answers. Not here: the loop (runtime/orchestration), what is made of the answers (scoring/refinement.py).
The first attempt is the answer without refinement: it is generated as any single answer of the orchestrator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from eval.answers import Answered
from eval.asking import Ask, Settings
from eval.items import Item
from eval.runners.deployment import answered, of_item
from interlock.canonical import canonical_json
from interlock.errors import UsageError
from runtime.effective import Resolved
from runtime.load import load
from runtime.orchestration.inference import InferenceOrchestrator, configured
from runtime.orchestration.judges import opening
from runtime.orchestration.judges.verdict import Judge

GIVER = "suite refinement"


def opened(settings: Settings) -> Ask:
    """Raises UsageError where the model may answer once alone or nothing would ever be content, and what opening a judge raises."""
    model = settings.deployed
    loaded = load(model.directory, model.backend, mode=model.mode)
    given = {"temperature": 0.0, "max_new_tokens": settings.max_new_tokens}
    resolved = configured(loaded, model.directory, None, None, given, GIVER)
    check(resolved, judged=bool(settings.judges))
    judge = opening.opened(opening.read(settings.judges)) if settings.judges else None
    return asker(InferenceOrchestrator(loaded, resolved), judge)


def check(resolved: Resolved, *, judged: bool) -> None:
    """Raises UsageError where nothing could be refined."""
    config = resolved.config
    if config.max_refinement_loops < 2:
        problem = f"{config.caws_tier.value} with max_refinement_loops {resolved.fields['max_refinement_loops'].asked} allows one answer"
        raise UsageError(f"{problem}: there is nothing to refine", remedy="deploy with --caws-tier tier_2 or tier_3")
    if not judged and not config.halt_head_enabled:
        raise UsageError("the suite has no judge and the model no halt head: nothing says that an answer will do", remedy="give the suite `judges`")


def asker(orchestrator: InferenceOrchestrator, judge: Judge | None) -> Ask:
    """`text`: the first attempt; `refined`: the best one, with what all of them took."""

    def ask(item: Item) -> dict[str, Answered]:
        own = replace(orchestrator, raw=item.prompt is not None)
        try:
            made = own.refine(item.messages if item.prompt is None else item.prompt, judge)
        except UsageError as error:
            raise of_item(item, error) from None
        last = made.attempts[-1].decision
        if last.halt_reason == "interrupted":
            raise KeyboardInterrupt
        taken = [answered(one.generation) for one in made.attempts]
        told = {
            "judge_score": tuple(one.verdict.score for one in made.attempts if one.verdict),
            "halt_probability": tuple(one.decision.halt_probability for one in made.attempts if one.decision.halt_probability is not None),
        }
        refined = replace(
            answered(made.answer.generation),
            passes=sum(one.passes for one in taken),
            prompt_tokens=sum(one.prompt_tokens for one in taken),
            numbers={name: values for name, values in told.items() if values},
            loops=len(taken),
            refined_until=str(last.halt_reason),
        )
        return {"refined": refined, "text": taken[0]}

    return ask


def digest(judges: Sequence[str]) -> str:
    """Of what their verdicts follow from, as far as files say: judges are a part of what an answer depends on. Raises what reading them raises."""
    return hashlib.sha256(canonical_json([one.identity() for one in opening.read(judges)])).hexdigest()
