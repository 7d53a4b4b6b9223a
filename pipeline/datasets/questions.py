"""Task `questions`: short questions with known answers, as people put them to an assistant.

Here: which of them a split has, and the truth that an answer is compared with. Not here: words and entities (pipeline/halting: those that no halt
head was fitted on), scoring (eval).
"""

from __future__ import annotations

from collections.abc import Iterator

from interlock.errors import UsageError
from pipeline.datasets.rows import Message, Row
from pipeline.datasets.tasks import Order, Task
from pipeline.halting.dialogues import Dialogue, dialogues


def make(order: Order) -> Iterator[Row]:
    """Families in turn. Raises UsageError where there are not that many questions."""
    known = [one for one in dialogues("fresh") if one.gold]
    if order.rows > len(known):
        raise UsageError(f"split `{order.split}` cannot have {order.rows} questions", remedy=f"ask for at most {len(known)}")
    numbers = order.random()
    families: dict[str, list[Dialogue]] = {}
    for one in numbers.sample(known, len(known)):
        families.setdefault(one.family, []).append(one)
    number = 0
    while number < order.rows:
        for left in families.values():
            if left and number < order.rows:
                yield _row(left.pop(), order.id(number))
                number += 1


def _row(one: Dialogue, name: str) -> Row:
    metadata = {"stratum": one.family, "clusters": [f"template {one.template}"], "accepted": [list(words) for words in one.gold]}
    if one.family == "continent":  # `in the European continent`
        metadata["accepted"] = [[*words, *(f"{word}{'an' if word.endswith('e') else 'n'}" for word in words)] for words in one.gold]
    if one.family == "yesno":
        says, denies = ["yes", "true", "correct", "is indeed"], ["no", "false", "incorrect", "not"]
        metadata |= {"accepted": [says], "refused": denies} if "yes" in one.gold[0] else {"accepted": [denies], "refused": says}
    return Row(id=name, messages=(Message(role="user", content=one.prompt),), answer=", ".join(words[0] for words in one.gold), metadata=metadata)


SUMMARY = "short questions with known answers: capitals, sums, translations"
TASK = Task("questions", SUMMARY, {"test": 600}, make)
