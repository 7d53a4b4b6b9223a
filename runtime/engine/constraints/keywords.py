"""The keywords of JSON Schema that are enforced, and those that enforce nothing; every other one is refused by its name and place.

Here: the walk over a schema. Not here: what a keyword means, and values that it does not take (an unknown `format`): llguidance refuses these.
llguidance passes over a keyword that it has never heard of, as JSON Schema says one should; a misspelt `required` would then require nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# One schema, a list of schemas, schemas by name.
_ONE = ("items", "additionalItems", "additionalProperties")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_VALUES = (
    *("$ref", "$id", "$schema", "$anchor"),
    *("type", "enum", "const"),
    *("minItems", "maxItems"),
    *("required", "minProperties", "maxProperties"),
    *("minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
)
ENFORCED = frozenset((*_ONE, *_LISTS, *_NAMED, *_VALUES))
# Annotations: they say nothing about what is valid. Source: JSON Schema Validation 2020-12, sections 8 and 9, and Core, section 8.3.
ANNOTATIONS = frozenset(
    ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "contentEncoding", "contentMediaType")
)


def refused_keywords(schema: Any, where: str = "") -> Iterator[str]:
    """The JSON pointer of every keyword that is not enforced, in the order of the document."""
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        place = f"{where}/{keyword}"
        if keyword not in ENFORCED and keyword not in ANNOTATIONS:
            yield place
        elif keyword in _NAMED and isinstance(value, dict):
            for name, inner in value.items():
                yield from refused_keywords(inner, f"{place}/{name}")
        elif keyword in _LISTS and isinstance(value, list):
            for number, inner in enumerate(value):
                yield from refused_keywords(inner, f"{place}/{number}")
        elif keyword in _ONE:
            yield from refused_keywords(value, place)
