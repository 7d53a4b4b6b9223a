"""Requests whose complete answer a program can recognise: families of templates, filled with entities, the same for the same seed.

Here: what is asked, and the truth that the label rules need. Not here: the words and entities (the .toml files), when an answer is
complete (labels.py), asking the model (answers.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from interlock.environments import parse_toml

FOLDER = Path(__file__).parent
# The files of each set, with seeds that differ: else two files would ask for the same sums in the same order. Earlier files stay as they are: answers
# to them are kept. What a head was judged on has been read, and is development from then on. `reserve` is for a next round: no head was fitted or
# judged on it, and the fresh dialogues were drawn with its sums left out. Whole names: a stage that asks these questions has their bytes in its key.
PARTS = {
    "development": (("development.toml", 7), ("development_second.toml", 8)),
    "reserve": (("reserve.toml", 9),),
    "fresh": (("fresh.toml", 10),),
}
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
# A family is used up when so many draws in a row gave nothing new.
MOST_MISSES = 400

SetName = Literal["development", "reserve", "fresh"]


class Entities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked about. `capitals`, `opposites`: every right answer by entity; `translations`: by word and language; `claims`: (subject, kind,
    whether it is true)."""

    lists: list[str]
    concepts: list[str]
    claims: list[tuple[str, str, bool]]
    capitals: dict[str, list[str]]
    continents: dict[str, list[str]]
    translations: dict[str, dict[str, list[str]]]
    opposites: dict[str, list[str]]


class Material(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One set: templates by family, how many dialogues of each family, and the entities that fill them."""

    templates: dict[str, list[str]]
    dialogues: dict[str, int]
    entities: Entities


@dataclass(frozen=True)
class Dialogue:
    """One request. `gold`: groups of alternatives, all groups belong to the answer; `count`: how many items or sentences were asked for; `about`:
    what the answer has to speak of: the countries of a pair, subject and kind of a yes-or-no question, a sum."""

    family: str
    template: str
    prompt: str
    gold: tuple[tuple[str, ...], ...] = ()
    count: int = 0
    about: tuple[str, ...] = ()


Drawn = tuple[dict[str, Any], dict[str, Any]]
Drawer = Callable[[Entities, random.Random], Drawn]


def dialogues(name: SetName) -> list[Dialogue]:
    """The dialogues of a set, none twice, templates of a family in turn. No file asks for a sum that an earlier one asks for; fresh comes last."""
    made: dict[str, list[Dialogue]] = {}
    taken: set[tuple[str, ...]] = set()
    for of, parts in PARTS.items():
        for file, seed in parts:
            material, chance = read(file), random.Random(seed)  # noqa: S311 - a choice of questions, nothing secret
            asked = [one for family, count in material.dialogues.items() for one in _family(material, family, count, chance, taken)]
            taken |= {one.about for one in asked if one.family == "arithmetic"}
            made.setdefault(of, []).extend(asked)
        if of == name:
            break
    return made[name]


def read(file: str) -> Material:
    """One file of templates and entities."""
    return msgspec.convert(parse_toml((FOLDER / file).read_text(encoding="utf-8")), Material)


def _family(material: Material, family: str, count: int, chance: random.Random, taken: set[tuple[str, ...]]) -> list[Dialogue]:
    made: dict[str, Dialogue] = {}
    templates, misses = material.templates[family], 0
    while len(made) < count and misses < MOST_MISSES:
        template = templates[len(made) % len(templates)]
        fields, truth = DRAW[family](material.entities, chance)
        text = template.format(**fields)
        prompt = text[0].upper() + text[1:]
        if prompt in made or truth.get("about") in taken:
            misses += 1
            continue
        misses, made[prompt] = 0, Dialogue(FAMILY_OF.get(family, family), template, prompt, **truth)
    return list(made.values())


# Sums told as a story are labelled like sums, but only addition can be told so.
FAMILY_OF = {"apples": "arithmetic"}


def _capital(entities: Entities, chance: random.Random) -> Drawn:
    country = chance.choice(list(entities.capitals))
    return {"x": country}, {"gold": (tuple(entities.capitals[country]),)}


def _pair(entities: Entities, chance: random.Random) -> Drawn:
    first, second = chance.sample(list(entities.capitals), 2)
    return {"x": first, "y": second}, {"gold": (tuple(entities.capitals[first]), tuple(entities.capitals[second])), "about": (first, second)}


def _continent(entities: Entities, chance: random.Random) -> Drawn:
    continent, country = chance.choice([(name, country) for name, countries in entities.continents.items() for country in countries])
    return {"x": country}, {"gold": ((continent,),)}


def _arithmetic(entities: Entities, chance: random.Random) -> Drawn:
    while True:
        sign = chance.choice("++-*")
        a, b = (chance.randint(2, 12), chance.randint(2, 12)) if sign == "*" else (chance.randint(2, 99), chance.randint(2, 99))
        if sign == "-" and b > a:
            a, b = b, a
        result = {"+": a + b, "-": a - b, "*": a * b}[sign]
        if result not in (a, b):  # else an operand that is repeated looks like the result
            return {"a": a, "b": b, "o": sign}, {"gold": ((str(result),),), "about": (f"{a}{sign}{b}",)}


def _apples(entities: Entities, chance: random.Random) -> Drawn:
    a, b = chance.randint(2, 99), chance.randint(2, 99)
    return {"a": a, "b": b}, {"gold": ((str(a + b),),), "about": (f"{a}+{b}",)}


def _list(entities: Entities, chance: random.Random) -> Drawn:
    count = chance.choice([2, 3, 3, 4, 5])
    return {"x": chance.choice(entities.lists), "n": chance.choice([NUMBERS[count], str(count)])}, {"count": count}


def _sentences(count: int) -> Drawer:
    return lambda entities, chance: ({"x": chance.choice(entities.concepts)}, {"count": count})


def _yesno(entities: Entities, chance: random.Random) -> Drawn:
    subject, kind, is_true = chance.choice(entities.claims)
    gold = ("yes", "true") if is_true else ("no", "false")
    return {"x": subject, "y": kind}, {"gold": (gold,), "about": (subject.split()[-1], kind.split()[-1])}


def _translate(entities: Entities, chance: random.Random) -> Drawn:
    word = chance.choice(list(entities.translations))
    language = chance.choice(list(entities.translations[word]))
    return {"x": word, "l": language}, {"gold": (tuple(entities.translations[word][language]),)}


def _opposite(entities: Entities, chance: random.Random) -> Drawn:
    word = chance.choice(list(entities.opposites))
    return {"x": word}, {"gold": (tuple(entities.opposites[word]),)}


DRAW: dict[str, Drawer] = {
    "capital": _capital,
    "pair": _pair,
    "continent": _continent,
    "arithmetic": _arithmetic,
    "apples": _apples,
    "list": _list,
    "define": _sentences(1),
    "two": _sentences(2),
    "yesno": _yesno,
    "translate": _translate,
    "opposite": _opposite,
    "open": _sentences(0),
}
FAMILIES = tuple(dict.fromkeys(FAMILY_OF.get(family, family) for family in DRAW))
