"""Hand-written answers of every family: `|` stands where the answer may end at the earliest; none where it never may; `…` where it was broken off."""

from __future__ import annotations

import re

import pytest

from pipeline.halting.dialogues import Dialogue
from pipeline.halting.labels import RULES, label


def asked(family: str, **truth: object) -> Dialogue:
    return Dialogue(family, "", "", **truth)  # type: ignore[arg-type]  # the fields of one family


CAPITAL = asked("capital", gold=(("Paris",),))
PAIR = asked("pair", gold=(("Paris",), ("Berlin",)), about=("France", "Germany"))
CONTINENT = asked("continent", gold=(("Asia",),))
SUM = asked("arithmetic", gold=(("64",),), about=("20+44",))
THREE = asked("list", count=3)
DEFINE, TWO = asked("define", count=1), asked("two", count=2)
TRUE = asked("yesno", gold=(("yes", "true"),), about=("whale", "mammal"))
WORD = asked("translate", gold=(("perro",),))
OPPOSITE = asked("opposite", gold=(("cold",),))
OPEN = asked("open")

ANSWERS = [
    (CAPITAL, "The capital of France is Paris.| It is a large city.", True),
    (CAPITAL, "Paris|", True),
    (CAPITAL, "The capital of France is Lyon.| It is a large city.", False),  # wrong, and complete in form
    (CAPITAL, "France is a country nestled in the west of a large and old continent. It has cities.", False),
    (CAPITAL, "I'm sorry, I cannot know the capital of a country. Ask again.", False),
    (CAPITAL, "Parisian food is famous in the whole world and in France itself. It is good.", False),  # the word alone
    (CAPITAL, "France is a large country in Europe. You can visit the capital of France, Lyon, in the south.| The capital is small.", False),
    (CAPITAL, "The seat of power in France is located in Lyon.| It is large.", False),
    (PAIR, "The capital of France is Paris, and that of Germany is Berlin.| Both are old.", True),
    (PAIR, "The capital of France is Paris. It is old.", True),
    (PAIR, "The capital of France is Lyon. The capital of Germany is Bonn.| Both are old.", False),
    (PAIR, "The capitals of France and Germany are Lyon and Bonn.| Both are old.", False),
    (PAIR, "The capitals of France and Germany are two of the largest cities. Both are old.", False),
    (PAIR, "Paris and Lyon are two of the most famous cities in Europe. Both are old.", False),
    (PAIR, "The capital cities are:\n\n1. France: Lyon\n2. Germany: Bonn|\n\nBoth are old.", False),
    (PAIR, "France: Paris\nGermany: Bonn|\n\nBoth are old.", False),
    (PAIR, "France: Paris\n\nIt is an old city. It has bridges.", False),
    (CONTINENT, "Ladies and gentlemen, I am very glad that you are here. It is a nice day.", False),
    (CONTINENT, "Nepal is in Asia.| It is small.", True),
    (SUM, "20 + 44 = 64.| That is it.", True),
    (SUM, "20 + 44 = 20 + 40 + 4 = 60 + 4 = 64.|", True),  # steps on the way are no result
    (SUM, "To solve it, add 44 to 20, which gives us 63.| Done.", False),
    (SUM, "There are 20 birds on a tree and 44 more arrive.\nThere are 64 birds now.|", True),
    (SUM, "If you compute it, it will be 65.| Done.", False),
    (SUM, "Anna owns 20 books. She buys 44 more. Now she owns 63 books.| Done.", False),  # an operand repeated is no result
    (SUM, "Anna has 20 books and gets 44 more.\nAnna now owns 20 books.|\nDone.", False),  # but for one that is said to be it
    (SUM, "You get 44 more books. That is it.", False),
    (SUM, "64|", True),
    (SUM, "The number 20 is even. It was known in the 18th century.", False),
    (THREE, "1. Red\n2. Blue\n3. Green|\n\nThese are colors.", True),
    (THREE, "1. Red\n2. Blue", False),
    (THREE, "1. Red\n2. Blue|\n\nThese are colors that everybody knows.", False),  # left for prose: shorter than asked, and over
    (THREE, "1. Red: a warm color.\n\n2. Blue: a cold color.\n\n3. Gr…", False),
    (THREE, "Three colors are red, blue and green.| They are warm.", True),
    (THREE, "The world has many colors. Three of them are: red, blue and green.| They are warm.", True),
    (THREE, "There is a color, which nobody has ever seen before today, and another one, and a third.", False),
    (THREE, "Here they are:\n\nRed (1)\nBlue (2)\nGreen (3)|\n\nThese are colors.", True),
    (THREE, "Here they are:\n\nRed (1)\nBlue (2)|\n\nThese are colors.", False),
    (THREE, "It is a joke. It is about the 3 colors of light, which are red, blue and green.| It is old.", True),
    (DEFINE, "Osmosis is a movement of water, e.g. through a skin.| It is slow.", True),
    (TWO, "It is large. It is blue.| It is old.", True),
    (TWO, "1. It is large and blue.", False),
    (TWO, 'It says "large and blue." 2. It is old.| And more.', True),  # `2.` announces a sentence and is none
    (TRUE, "Yes, it is.| A whale breathes air.", True),
    (TRUE, "No, a whale is a fish.| It swims.", False),
    (TRUE, "A whale is indeed a warm animal.| It swims.", False),  # says what the subject is without the word that was asked for
    (TRUE, "The answer lies in the realm of biology. While whales are large, they are mammals.| They swim.", False),
    (TRUE, "The answer lies in the realm of biology. It is old.", False),
    (TRUE, "The question of whether a whale is a mammal is an old one. Whales are large.| They swim.", False),
    (WORD, "The word is 'perro'.| It is used in Spain.", True),
    (WORD, "You say 'gato'.| It is used in Spain.", False),
    (WORD, "In Spanish, 'dog' is a word that has a long history. It is old.", False),
    (OPPOSITE, "Cold.| It is", True),
    (OPPOSITE, "The opposite is 'warm'.| Warm is neither hot nor cold.", False),  # the right word comes too late
    (OPPOSITE, 'Antonym: "warm"|\n\nIt is used often.', False),
    (OPPOSITE, "Here is a word:\nCold.|", True),
    (OPPOSITE, "In the world of words there are many that people use every single day. One", False),
    (OPEN, "Once there was a bird. It flew.", False),
]


def pieces_of(text: str) -> tuple[str, ...]:
    """Tokens as a tokenizer cuts them, roughly: words with the space before them, marks, line ends."""
    return tuple(re.findall(r" ?\w+|\n| ?[^\w\s]", text))


@pytest.mark.parametrize(("dialogue", "marked", "right"), ANSWERS, ids=[marked[:40] for _, marked, _ in ANSWERS])
def test_an_answer_is_complete_where_a_reader_says(dialogue: Dialogue, marked: str, right: bool) -> None:
    text = marked.replace("|", "").rstrip("…")
    pieces = pieces_of(text)
    assert "".join(pieces) == text
    found = label(dialogue, pieces, ended=not marked.endswith("…"))
    assert (None if found.end is None else "".join(pieces[: found.end])) == (marked.partition("|")[0] if "|" in marked else None)
    assert found.content is None or found.end is None or found.content <= found.end
    if dialogue is not PAIR or found.end is not None:
        assert found.right is (right and "|" in marked)


def test_every_family_has_a_rule_and_an_answer_here() -> None:
    assert {dialogue.family for dialogue, _, _ in ANSWERS} == set(RULES)


def test_an_answer_that_was_broken_off_is_not_complete_at_its_last_token() -> None:
    """The last token of an answer that ran into the limit may be half a sentence: only the model's own end completes it."""
    pieces = pieces_of("The capital of France is Paris")
    assert label(CAPITAL, pieces, ended=False).end is None
    assert label(CAPITAL, pieces, ended=True).end == len(pieces)
