"""`parity`: the same question to two models, and both models' probabilities along the same tokens.

Here: both answers, and three numbers per position. Not here: the numbers (divergence.py), figures of them (scoring/parity.py).
Positions are those of the tokens that the second model chose (its answer is the truth that the first one is compared with), the first after the
prompt included.
"""

from __future__ import annotations

from dataclasses import replace

from eval.answers import Answered
from eval.asking import Ask, Settings
from eval.asking.divergence import compared
from eval.items import Item
from eval.runners.deployment import answered, generated, ids_of
from interlock.errors import UsageError
from runtime.load import Loaded, load


def opened(settings: Settings) -> Ask:
    """Raises UsageError where there is no second model, or one of another tokenizer."""
    ours, theirs = pair(settings)

    def ask(item: Item) -> dict[str, Answered]:
        ids = ids_of(theirs, item)
        said = generated(theirs, item, ids, settings.max_new_tokens)
        found = compared(ours.backend, theirs.backend, ids, said.tokens)
        numbers = {name: found[name] for name in ("kl", "same_top", "p_change")}
        mine = said if all(numbers["same_top"]) else generated(ours, item, ids, settings.max_new_tokens)
        return {"text": replace(answered(mine), numbers=numbers), "against": answered(said)}

    return ask


def pair(settings: Settings) -> tuple[Loaded, Loaded]:
    """The two models of a comparison. Raises UsageError where there is no second one, or one of another tokenizer."""
    if settings.against is None:
        raise UsageError("this suite compares two models and was given one", remedy="name the other with --against or --against-backend")
    ours, theirs = (load(one.directory, one.backend, mode=one.mode) for one in (settings.deployed, settings.against))
    if ours.info.sha256 != theirs.info.sha256:
        raise UsageError("the two models have different tokenizers: their tokens cannot be compared", remedy="name another build of the same student")
    return ours, theirs
