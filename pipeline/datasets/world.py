"""A small world with tools: what may be asked of it, in which words, and what each tool answers.

Here: the registry, results, sentences. Not here: dialogues (toolcalls.py, contextual.py), who owns which name (entities.py).
Every result follows from the seed, the tool and its canonical arguments, so that the same call has the same answer wherever it is made.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.datasets import entities
from pipeline.datasets.tasks import Order
from pipeline.datasets.tools import Parameters, Property, Tool, canonical, digest

Arguments = Mapping[str, Any]
Result = dict[str, Any]

MISSPELT = "x"
"""A letter that no name has: a place with it is unknown to the weather, which knows what was meant."""
SKIES = ("light rain", "heavy rain", "clear sky", "thin fog", "fresh snow", "strong wind", "low clouds", "warm sun")


def _text(about: str) -> Property:
    return Property(type="string", description=about)


def _tool(description: str, required: tuple[str, ...], **properties: Property) -> Tool:
    return Tool(description=description, parameters=Parameters(properties=properties, required=required))


REGISTRY: dict[str, Tool] = {
    "weather.lookup": _tool(
        "The weather of a place now.",
        ("place",),
        place=_text("name of the place"),
        unit=Property(type="string", enum=("celsius", "fahrenheit"), default="celsius"),
    ),
    "stock.count": _tool(
        "How many of an item a shop has, and where.", ("item", "shop"), item=_text("name of the item"), shop=_text("town of the shop")
    ),
    "trains.next": _tool(
        "The next train between two towns.",
        ("origin", "destination"),
        origin=_text("where it leaves"),
        destination=_text("where it goes"),
        after=Property(type="integer", description="hour of the day", minimum=0, maximum=23, default=8),
    ),
    "people.find": _tool("Where a person lives.", ("name",), name=_text("name of the person")),
    "math.multiply": _tool(
        "The product of two whole numbers.",
        ("a", "b"),
        a=Property(type="integer", minimum=1, maximum=99_999),
        b=Property(type="integer", minimum=1, maximum=99_999),
    ),
    "web.search": _tool(
        "Pages about a question.",
        ("q",),
        q=_text("what is looked for"),
        top_k=Property(type="integer", description="how many pages", minimum=1, maximum=10, default=3),
    ),
    "file.read": _tool("A file of the project, in short.", ("path",), path=_text("path from the root")),
}


@dataclass(frozen=True)
class Question:
    """One thing that can be asked: a call, the words around it (`templates` have the slots of `slots`), what a right answer says and holds."""

    tool: str
    templates: tuple[str, ...]
    draw: Callable[[Order, random.Random], dict[str, Any]]
    reply: str
    truth: str

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments that are names, each of which belongs to one split."""
        return tuple(name for name in ("place", "item", "shop", "origin", "destination", "name", "q", "path") if name in self.properties)

    @property
    def properties(self) -> Mapping[str, Property]:
        return REGISTRY[self.tool].parameters.properties


def _names(*slots: str) -> Callable[[Order, random.Random], dict[str, Any]]:
    return lambda order, numbers: {slot: entities.name(order, numbers) for slot in slots}


QUESTIONS: dict[str, Question] = {
    one.tool: one
    for one in (
        Question(
            "weather.lookup",
            (
                "How warm is it in {place} now, in {unit}?",
                "What is the temperature in {place}, in {unit}?",
                "Tell me how the weather in {place} is, in {unit}.",
                "Do I need a coat in {place} today? I think in {unit}.",
                "Is it warm in {place}? Say it in {unit}.",
                "{place}: how is the weather, in {unit}?",
                "I am on my way to {place}. How many degrees {unit} has it?",
                "Give me the weather of {place} in {unit}, please.",
            ),
            lambda order, numbers: {**_names("place")(order, numbers), "unit": numbers.choice(("celsius", "fahrenheit"))},
            "It is {temperature} degrees {unit} in {place}, with {summary}.",
            "{temperature}",
        ),
        Question(
            "stock.count",
            (
                "How many {item} does the shop in {shop} have?",
                "Is there any {item} left in {shop}?",
                "Count the {item} in the {shop} shop.",
                "I want to buy {item} in {shop}. How many are there?",
                "Does {shop} still have {item}, and how many?",
                "{item} in {shop}: how many, on which shelf?",
                "Look up the stock of {item} in {shop}.",
                "Where in the shop of {shop} is the {item}, and how many are left?",
            ),
            _names("item", "shop"),
            "The shop in {shop} has {count} {item}, on shelf {shelf}.",
            "{count}",
        ),
        Question(
            "trains.next",
            (
                "When does the next train from {origin} to {destination} leave after {after}?",
                "I must go from {origin} to {destination} after {after} o'clock.",
                "Find me a train from {origin} to {destination}, not before {after}.",
                "{origin} to {destination} by train after {after}: when?",
                "Which train takes me from {origin} to {destination} after {after}?",
                "After {after}, when is there a train to {destination} from {origin}?",
                "What leaves {origin} for {destination} after {after}?",
                "Next train {origin} - {destination}, after {after}, please.",
            ),
            lambda order, numbers: {**_names("origin", "destination")(order, numbers), "after": numbers.randrange(5, 22)},
            "The next train from {origin} to {destination} leaves at {departs} from platform {platform}.",
            "{departs}",
        ),
        Question(
            "math.multiply",
            (
                "What is {a} times {b}?",
                "Multiply {a} by {b}.",
                "{a} * {b} =",
                "I have {a} boxes of {b} nails. How many nails is that?",
                "Give me the product of {a} and {b}.",
                "How much is {a} times {b}?",
                "{b} people pay {a} each. What do they pay together?",
                "Compute {a} x {b}.",
            ),
            lambda order, numbers: {"a": _number(order, numbers), "b": numbers.randrange(12, 1000)},
            "{a} times {b} is {product}.",
            "{product}",
        ),
        Question(
            "web.search",
            (
                "Look for pages about {q}.",
                "Search the web for {q}.",
                "What can I read about {q}?",
                "Find something about {q} for me.",
                "I need sources on {q}.",
                "Which pages tell of {q}?",
                "Who writes about {q}?",
                "Are there pages about {q}?",
            ),
            lambda order, numbers: {"q": entities.name(order, numbers, 3).lower()},
            "The first of {count} pages about {q} is {title}.",
            "{title}",
        ),
        Question(
            "file.read",
            (
                "How long is {path}?",
                "What is in {path}?",
                "Read {path} and tell me what it does.",
                "Have a look at {path}.",
                "Summarise {path}.",
                "How many lines has {path}?",
                "Open {path}: what is it about?",
                "Tell me about {path}.",
            ),
            lambda order, numbers: {"path": f"src/{entities.name(order, numbers).lower()}.py"},
            "{path} has {lines} lines: {summary}.",
            "{lines}",
        ),
    )
}

# Two calls, the second of which needs what the first one says.
CHAINED = (
    "How is the weather where {name} lives?", "Is it warm in the town of {name}?", "What is the temperature where {name} lives?",
    "I visit {name}. What weather do I have to expect?", "{name} is at home. How warm is it there?", "Does {name} need a coat at home?",
    "Tell me the weather of the town in which {name} lives.", "Find out where {name} lives and how the weather is there.",
)  # fmt: skip
CHAINED_REPLY = "{name} lives in {town}, where it is {temperature} degrees {unit} with {summary}."


def result(order: Order, tool: str, arguments: Arguments) -> Result:
    """What a tool answers to canonical arguments."""
    numbers = random.Random(f"{order.seed} {digest(tool, arguments)}")  # noqa: S311 - seeded on purpose
    if tool == "weather.lookup" and MISSPELT in arguments["place"]:
        return {"ok": False, "error": f"no such place; did you mean {arguments['place'].replace(MISSPELT, '')}?"}
    if tool == "weather.lookup":
        celsius = numbers.randrange(-15, 35)
        warm = celsius if arguments["unit"] == "celsius" else round(celsius * 9 / 5 + 32)
        return {"summary": numbers.choice(SKIES), "temperature": warm, "unit": arguments["unit"]}
    if tool == "stock.count":
        return {"count": numbers.randrange(2, 90), "shelf": f"{numbers.choice('ABCDEFGH')}{numbers.randrange(1, 20)}"}
    if tool == "trains.next":
        return {"departs": f"{arguments['after']:02}:{numbers.randrange(1, 60):02}", "platform": numbers.randrange(1, 13)}
    if tool == "people.find":
        return {"town": entities.name(order, numbers)}
    if tool == "math.multiply":
        return {"product": arguments["a"] * arguments["b"]}
    if tool == "web.search":
        titles = [
            f"{arguments['q'].capitalize()} {word}" for word in numbers.sample(("today", "in short", "explained", "and its uses", "in numbers"), 3)
        ]
        pages = [{"title": title, "url": f"https://example.org/{title.lower().replace(' ', '-')}"} for title in titles[: arguments["top_k"]]]
        return {"count": len(pages), "results": pages}
    return {
        "lines": numbers.randrange(10, 900),
        "summary": f"{numbers.choice(('reads', 'writes', 'checks', 'sorts'))} {entities.name(order, numbers)}",
    }


def words(arguments: Arguments, found: Result) -> dict[str, Any]:
    """What a sentence may say of a call and its result."""
    first = found["results"][0]["title"] if found.get("results") else ""
    return {**arguments, **found, "title": first}


def full(tool: str, arguments: Arguments) -> dict[str, Any]:
    """Canonical arguments of a call."""
    return canonical(REGISTRY[tool], arguments)


def _number(order: Order, numbers: random.Random) -> int:
    while True:
        if entities.split_of(order.seed, str(number := numbers.randrange(12, 10_000))) == order.split:
            return number
