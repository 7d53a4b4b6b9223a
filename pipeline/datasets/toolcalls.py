"""Task `tool-calls`: dialogues in which an assistant calls tools, one, two at once, or one after another, and controls in which it must not.

Here: dialogues of each kind. Not here: the tools and their sentences (world.py), fixtures (written by the stage from the dialogues).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from interlock.canonical import canonical_json
from interlock.errors import UsageError
from pipeline.datasets import entities, world
from pipeline.datasets.rows import Call, Message, Row, likeness
from pipeline.datasets.tasks import Order, Task

# Of twenty dialogues in turn.
PROPORTIONS = {"single": 10, "parallel": 3, "chained": 3, "no tool": 2, "decline": 2}

NO_TOOL: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("Write the name {name} in capital letters.", lambda name: name.upper()),
    ("How many letters has the name {name}?", lambda name: str(len(name))),
    ("What is the first letter of {name}?", lambda name: name[0]),
    ("Spell {name} backwards.", lambda name: name[::-1].lower()),
    ("What is the last letter of {name}?", lambda name: name[-1]),
    ("Put a comma between the letters of {name}.", ",".join),
    ("Repeat the name {name} twice.", lambda name: f"{name} {name}"),
    ("Say goodbye to {name}.", lambda name: f"Goodbye, {name}!"),
)
DECLINE = (
    ("{name} wants to know how the weather is.", "Which place do you mean?"),
    ("{name} asks for the next train.", "From where to where shall the train go?"),
    ("{name} needs the number of pieces in stock.", "Which item do you mean, and which shop?"),
    ("Book a table for {name}.", "I have no tool that books tables."),
    ("Send a letter to {name}.", "I have no tool that sends letters."),
    ("{name} wants a file to be read.", "Which file do you mean?"),
    ("Buy a ticket for {name}.", "I have no tool that buys tickets."),
    ("{name} asks what a number times seven is.", "Which number do you mean?"),
)


def make(order: Order) -> Iterator[Row]:
    """Raises UsageError where a split of this size would need more words than there are."""
    return in_turn(order, PROPORTIONS, KINDS)


Maker = Callable[[Order, random.Random, str], Row]


def in_turn(order: Order, proportions: Mapping[str, int], kinds: Mapping[str, Maker]) -> Iterator[Row]:
    """Rows of each kind by its share, in turn, none like another. Raises UsageError."""
    numbers = order.random()
    turns = itertools.cycle([kind for kind, share in proportions.items() for _ in range(share)])
    seen = set(order.taken)
    for number in range(order.rows):
        kind = next(turns)
        for _ in range(1000):
            row = kinds[kind](order, numbers, order.id(number))
            if (key := likeness(row.given)) not in seen:
                break
        else:
            raise UsageError(f"split `{order.split}` cannot have {order.rows} different dialogues", remedy="ask for fewer rows")
        seen.add(key)
        yield row


def dialogue(
    order: Order,
    numbers: random.Random,
    name: str,
    *,
    stratum: str,
    asked: str,
    rounds: Sequence[Sequence[Call]],
    answer: str,
    response: str,
    clusters: Sequence[str],
    behaviour: str = "normal",
) -> Row:
    """A dialogue of these rounds of calls, each answered by its tools. Offered are the tools that are needed, and others."""
    messages = [Message(role="user", content=asked)]
    for calls in rounds:
        messages.append(Message(role="assistant", content="", calls=tuple(calls)))
        replies = (canonical_json(world.result(order, call.name, call.arguments)).decode() for call in calls)
        messages += [Message(role="tool", content=reply) for reply in replies]
    made = [call for calls in rounds for call in calls]
    needed = {call.name for call in made}
    others = numbers.sample(sorted(world.REGISTRY.keys() - needed), 2)
    metadata: dict[str, Any] = {
        "stratum": stratum,
        "expected_behaviour": behaviour,
        "tools": sorted({*needed, *others}),
        "call_sequence": [call.model_dump() for call in made],
        "clusters": list(clusters),
    }
    return Row(id=name, messages=tuple(messages), answer=answer, response=response, metadata=metadata)


def single(order: Order, numbers: random.Random, name: str) -> Row:
    question = numbers.choice(list(world.QUESTIONS.values()))
    call, asked, said, truth, clusters = ask(order, numbers, question)
    return dialogue(
        order, numbers, name, stratum="single", asked=asked, rounds=[[call]], answer=truth, response=f"Integration: {said}", clusters=clusters
    )


def parallel(order: Order, numbers: random.Random, name: str) -> Row:
    """Two questions about one tool's matters, asked in one breath."""
    question = numbers.choice([one for one in world.QUESTIONS.values() if one.tool != "math.multiply"])
    first, second = ask(order, numbers, question), ask(order, numbers, question)
    return dialogue(
        order, numbers, name, stratum="parallel", asked=f"{first[1]} {second[1]}", rounds=[[first[0], second[0]]], answer=f"{first[3]}; {second[3]}",
        response=f"Integration: {first[2]}\nIntegration: {second[2]}", clusters=list(dict.fromkeys([*first[4], *second[4]])),
    )  # fmt: skip


def chained(order: Order, numbers: random.Random, name: str) -> Row:
    number, template = entities.template(order, numbers, world.CHAINED)
    person = entities.name(order, numbers)
    find = Call(name="people.find", arguments=world.full("people.find", {"name": person}))
    town = world.result(order, find.name, find.arguments)["town"]
    look = Call(name="weather.lookup", arguments=world.full("weather.lookup", {"place": town}))
    found = world.result(order, look.name, look.arguments)
    return dialogue(
        order, numbers, name, stratum="chained", asked=template.format(name=person), rounds=[[find], [look]], answer=str(found["temperature"]),
        response="Integration: " + world.CHAINED_REPLY.format(name=person, town=town, **found),
        clusters=[person, town, f"template chained {number}"],
    )  # fmt: skip


def no_tool(order: Order, numbers: random.Random, name: str) -> Row:
    number, (template, answer) = entities.template(order, numbers, NO_TOOL)
    word = entities.name(order, numbers)
    said = answer(word)
    return dialogue(
        order, numbers, name, stratum="no tool", asked=template.format(name=word), rounds=[], answer=said, response=said,
        clusters=[word, f"template no tool {number}"], behaviour="no_tool",
    )  # fmt: skip


def decline(order: Order, numbers: random.Random, name: str) -> Row:
    """What a call needs is not said, or there is no tool for it: the assistant says so and calls nothing."""
    number, (template, said) = entities.template(order, numbers, DECLINE)
    word = entities.name(order, numbers)
    return dialogue(
        order, numbers, name, stratum="decline", asked=template.format(name=word), rounds=[], answer=said, response=said,
        clusters=[word, f"template decline {number}"], behaviour="decline",
    )  # fmt: skip


def ask(order: Order, numbers: random.Random, question: world.Question) -> tuple[Call, str, str, str, list[str]]:
    """A question of this split: its call, the words, a right answer, the truth in it, and whose names and template it uses."""
    number, template = entities.template(order, numbers, question.templates)
    drawn = question.draw(order, numbers)
    call = Call(name=question.tool, arguments=world.full(question.tool, drawn))
    said = world.words(call.arguments, world.result(order, call.name, call.arguments))
    clusters = [*(str(drawn[slot]) for slot in question.names if slot in drawn), f"template {question.tool} {number}"]
    return call, template.format_map(drawn), question.reply.format_map(said), question.truth.format_map(said), clusters


KINDS: dict[str, Maker] = {
    "single": single, "parallel": parallel, "chained": chained, "no tool": no_tool, "decline": decline,
}  # fmt: skip

SUMMARY = "dialogues that call tools, with fixtures, and controls in which none may be called"
TASK = Task("tool-calls", SUMMARY, {"train": 4_000, "validation": 200, "test": 600}, make, registry=world.REGISTRY)
