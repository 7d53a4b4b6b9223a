"""Questions in other languages, with numbers as they are written there.

Here: sentences of four languages. Not here: what is asked (world.py), items (contextual.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """`weather` and `product` ask, the replies answer; `group` stands between thousands (CLDR 46)."""

    weather: str
    weather_reply: str
    product: str
    product_reply: str
    group: str

    def number(self, value: int) -> str:
        """A number as people write it there: in arguments of a call it is a plain one."""
        return f"{value:,}".replace(",", self.group)


LANGUAGES = {
    "de": Language(
        "Wie warm ist es jetzt in {place}, in Grad Celsius?", "In {place} sind es {temperature} Grad Celsius.",
        "Wie viel ist {a} mal {b}?", "{a} mal {b} ist {product}.", ".",
    ),
    "fr": Language(
        "Quelle est la température à {place}, en degrés Celsius ?", "Il fait {temperature} degrés Celsius à {place}.",
        "Combien font {a} fois {b} ?", "{a} fois {b} font {product}.", "\u202f",
    ),
    "pt": Language(
        "Qual é a temperatura em {place}, em graus Celsius?", "Em {place} estão {temperature} graus Celsius.",
        "Quanto é {a} vezes {b}?", "{a} vezes {b} são {product}.", ".",
    ),
    "zh": Language(
        "{place}现在多少摄氏度？", "{place}现在{temperature}摄氏度。", "{a}乘以{b}等于多少？", "{a}乘以{b}等于{product}。", ",",
    ),
}  # fmt: skip
