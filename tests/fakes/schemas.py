"""JSON schemas and tools drawn from a seed: every enforced keyword, nested, and every valid answer of bounded length."""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]
WORDS = ("city", "unit", "é", "a b", "x-1", 'q"uote', "back\\slash", "limit", "Ünïcode", "👍", "n", "id")


def random_schema(rng: random.Random, depth: int = 2) -> Schema:
    """One schema; depth: how far lists and objects are nested in it."""
    kinds = [_string, _pattern, _format, _enum, _const, _integer, _multiple, _number, _types]
    kinds += [_array, _tuple, _object, _object, _map, _any_of, _all_of] if depth else []
    return rng.choice(kinds)(rng, depth - 1)


def random_object(rng: random.Random, depth: int = 2) -> Schema:
    """The schema of a tool's arguments, sometimes with definitions."""
    schema = _object(rng, depth - 1)
    if rng.random() < 0.3:
        schema["$defs"] = {"shared": random_schema(rng, 0)}
        schema["properties"]["shared one"] = {"$ref": "#/$defs/shared"}
        schema["required"] = [*schema.get("required", []), "shared one"]
    return schema


def random_tools(rng: random.Random) -> list[dict[str, Any]]:
    """One to four function definitions in OpenAI's form."""
    names = rng.sample(("get_weather", "search", "read_file", "a", "get_weather2", "x-y_Z9"), rng.randint(1, 4))
    return [{"type": "function", "function": {"name": name, "description": "Does it.", "parameters": random_object(rng)}} for name in names]


def _string(rng: random.Random, _: int) -> Schema:
    return {"type": "string", "minLength": rng.randint(0, 2), "maxLength": rng.randint(2, 9), "description": "a text"}


def _pattern(rng: random.Random, _: int) -> Schema:
    return {"type": "string", "pattern": rng.choice(("^[a-z]{1,6}$", "^(x|yz)-[0-9]{2}$", "^\\d{3}\\.?\\w?$", '^[^\\n"]{1,4}$'))}


def _format(rng: random.Random, _: int) -> Schema:
    return {"type": "string", "format": rng.choice(("date", "ipv4", "uuid"))}


def _enum(rng: random.Random, _: int) -> Schema:
    return {"enum": [*rng.sample(WORDS, 3), 1, None, True, 2.5, {"a": ["b"]}][rng.randint(0, 4) :]}


def _const(rng: random.Random, _: int) -> Schema:
    return {"const": rng.choice((*WORDS, 0, -3, None, [1, "two"], {"k": {"l": []}}))}


def _integer(rng: random.Random, _: int) -> Schema:
    low = rng.randint(-1000, 1000)
    return {"type": "integer", rng.choice(("minimum", "exclusiveMinimum")): low, "maximum": low + rng.randint(1, 5000), "title": "Number"}


def _multiple(rng: random.Random, _: int) -> Schema:
    return {"type": "integer", "multipleOf": rng.randint(2, 9), "minimum": 0, "exclusiveMaximum": 100}


def _number(rng: random.Random, _: int) -> Schema:
    return {"type": "number", "minimum": round(rng.uniform(-9, 0), 2), "maximum": round(rng.uniform(0, 9), 2)}


def _types(rng: random.Random, _: int) -> Schema:
    return {"type": rng.sample(("boolean", "null", "integer"), 2)}


def _array(rng: random.Random, depth: int) -> Schema:
    least = rng.randint(0, 2)
    return {"type": "array", "items": random_schema(rng, depth), "minItems": least, "maxItems": least + rng.randint(0, 2)}


def _tuple(rng: random.Random, depth: int) -> Schema:
    return {"type": "array", "prefixItems": [random_schema(rng, depth), {"type": "boolean"}], "items": False, "minItems": 2}


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(WORDS, rng.randint(1, 4))
    fields = {name: random_schema(rng, depth) for name in names}
    return {"type": "object", "properties": fields, "required": rng.sample(names, rng.randint(0, len(names))), "additionalProperties": False}


def _map(rng: random.Random, depth: int) -> Schema:
    return {"type": "object", "patternProperties": {"^[ab]{1,2}$": random_schema(rng, depth)}, "additionalProperties": False, "maxProperties": 2}


def _any_of(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [random_schema(rng, depth), random_schema(rng, depth)]}


def _all_of(rng: random.Random, depth: int) -> Schema:
    return {"allOf": [_object(rng, depth), {"type": "object"}]}
