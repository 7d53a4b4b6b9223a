"""Recipes: a TOML file that names a build, read strictly, with values set from outside and a matrix expanded.

Here: where recipes are found, `--set`, `[matrix]`. Not here: the fields (recipe_tables.py), the stages that a recipe asks for (driver/graph.py),
running them.
A recipe is data: it names no command and no code beyond the names of stages.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from interlock.canonical import canonical_json
from interlock.environments import read_toml
from interlock.errors import ContractError, UsageError, Violation
from pipeline.recipe_tables import TABLES, Recipe, ThirdParty

FOLDER = Path(__file__).parent / "recipes"
MAX_BYTES = 256 << 10
MAX_CELLS = 10_000


@dataclass(frozen=True)
class Cell:
    """One build of a recipe: its name from the matrix values (empty without a matrix), those values, and the recipe with them set."""

    name: str
    values: dict[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Loaded:
    """A recipe as read: `name` of its file, the values common to all cells, the cells. `has_matrix` even where it has one cell."""

    name: str
    file: Path
    common: Recipe
    cells: tuple[Cell, ...]
    has_matrix: bool
    sets: tuple[str, ...] = ()


def find(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with interlock. Raises UsageError."""
    path = Path(name)
    if path.suffix == ".toml" or "/" in name:
        if path.is_file():
            return path
        raise UsageError(f"there is no recipe `{name}`", remedy="name a .toml file, or see `interlock recipes`")
    file = FOLDER / f"{name}.toml"
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) and file.is_file():
        return file
    from difflib import get_close_matches

    known = shipped()
    near = get_close_matches(name, known, 1)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    raise UsageError(
        f"there is no recipe `{name}`{hint}", remedy=f"there are {', '.join(known)}; a file of your own is named by its path (NAME.toml)"
    )


def shipped() -> list[str]:
    """The names of the recipes that come with interlock."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load(name: str, sets: Sequence[str] = ()) -> Loaded:
    """A recipe with `--set` values and its matrix expanded. Raises UsageError and ContractError."""
    file = find(name)
    if file.stat().st_size > MAX_BYTES:
        raise _bad(file, [("", f"at most {MAX_BYTES} bytes", f"{file.stat().st_size}")])
    try:
        document = read_toml(file)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise _bad(file, [("", "a TOML file in UTF-8", str(error) or "nesting without end")]) from None
    return expand(file, document, sets)


def expand(file: Path, document: dict[str, Any], sets: Sequence[str] = ()) -> Loaded:
    """`document` with `sets` applied, one cell per combination of its `[matrix]`. Raises UsageError and ContractError."""
    for assignment in sets:
        key, value = _assignment(assignment)
        _put(document, key, value)
    matrix, excluded = _matrix(file, document.pop("matrix", {}))
    names = list(matrix)
    combinations = [dict(zip(names, values, strict=True)) for values in itertools.product(*matrix.values())]
    chosen = [values for values in combinations if not any(all(values.get(k) == v for k, v in rule.items()) for rule in excluded)]
    if not chosen:
        raise _bad(file, [("/matrix/exclude", "rules that leave at least one cell", "none left")])
    common = _validated(file, document) if matrix == {} else None
    cells = tuple(Cell(_cell_name(values), values, common or _validated(file, _with(document, values))) for values in chosen)
    return Loaded(file.stem, file, common or cells[0].recipe, cells, bool(matrix), tuple(sets))


def _matrix(file: Path, table: Any) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    if not isinstance(table, dict):
        raise _bad(file, [("/matrix", "a table of lists", repr(table)[:80])])
    excluded = table.pop("exclude", [])
    if not isinstance(excluded, list) or not all(isinstance(rule, dict) and rule and set(rule) <= set(table) for rule in excluded):
        raise _bad(file, [("/matrix/exclude", f"tables with keys of {', '.join(table) or 'the matrix'}", repr(excluded)[:80])])
    cells = 1
    for key, values in table.items():
        if not isinstance(values, list) or not values:
            raise _bad(file, [(f"/matrix/{key}", 'a list of values, under a quoted name ("compress.method")', repr(values)[:80])])
        if len({canonical_json(value) for value in values}) != len(values):
            raise _bad(file, [(f"/matrix/{key}", "values that differ", repr(values)[:80])])
        cells *= len(values)
    if cells > MAX_CELLS:
        raise _bad(file, [("/matrix", f"at most {MAX_CELLS} cells", str(cells))])
    return table, excluded


def _cell_name(values: dict[str, Any]) -> str:
    """`method=int8,primary=128`: short, and a plain file name."""
    text = ",".join(f"{key.rpartition('.')[2]}={'-'.join(map(str, value)) if isinstance(value, list) else value}" for key, value in values.items())
    return re.sub(r"[^A-Za-z0-9_.+=,-]", "_", text)[:120]


def _assignment(text: str) -> tuple[str, Any]:
    """`compress.method=int8`: the value is TOML where it is valid as such, else a text."""
    key, mark, value = text.partition("=")
    if not mark or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_-]+)*", key):
        raise UsageError(
            f"--set `{text}` is no assignment", remedy='give KEY=VALUE, as in --set compress.method=int8 or --set "export.lengths=[64, 128]"'
        )
    from interlock.environments import parse_toml

    try:
        return key, parse_toml(f"value = {value}")["value"]
    except ValueError:
        return key, value


def _put(document: Any, key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        # [[stages]] is a list: its tables go by the name of their step.
        inner = _named(document, table) if isinstance(document, list) else document.setdefault(table, {})
        if not isinstance(inner, dict | list):
            raise UsageError(f"`{key}`: there is no table `{table}`", remedy="see the recipe's fields in docs/recipes.md")
        document = inner
    if isinstance(document, list):
        raise UsageError(f"`{key}`: `{last}` is a step, not a value", remedy=f"name what of it: `{key}.params.…`")
    document[last] = value


def _named(tables: list[Any], name: str) -> Any:
    return next((table for table in tables if isinstance(table, dict) and table.get("name", table.get("stage")) == name), None)


def _with(document: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(document)
    for key, value in values.items():
        _put(made, key, value)
    return made


def _validated(file: Path, document: dict[str, Any]) -> Recipe:
    try:
        return msgspec.convert(document, Recipe, strict=True)
    except msgspec.ValidationError as error:
        raise _bad(file, [_place(str(error), document)]) from None


_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


def _place(message: str, document: dict[str, Any]) -> tuple[str, str, str]:
    """Where, expected, found, from msgspec's message: `… - at `$.export.primary``."""
    told, _, path = message.partition(" - at `$")
    where = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path.rstrip("`")).replace(".", "/")
    if unknown := _UNKNOWN.fullmatch(told):
        from difflib import get_close_matches

        known = _fields(where)
        near = get_close_matches(unknown[1], known, 1)
        return where, f"one of {', '.join(known)}", f"`{unknown[1]}`" + (f"; did you mean `{near[0]}`?" if near else "")
    if not where:
        return where, "a recipe that makes sense", told
    if told.startswith("Invalid enum value"):
        told = f"one of {', '.join(_choices(where))}"
    return where, told.removeprefix("Expected ").partition(", got ")[0], _found(document, where)


def _found(document: Any, where: str) -> str:
    """The value at a place, short."""
    for part in where.strip("/").split("/"):
        if isinstance(document, list):
            document = document[int(part)] if part.isdigit() else None
        else:
            document = document.get(part) if isinstance(document, dict) else None
    return repr(document)[:80]


def _choices(where: str) -> list[str]:
    table, _, field = where.rpartition("/")
    hint = get_type_hints(TABLES.get(table, ThirdParty)).get(field)
    return [str(choice) for choice in get_args(hint)]


def _fields(where: str) -> list[str]:
    model = TABLES.get(where, ThirdParty)
    return [*model.__struct_fields__, *(["matrix"] if model is Recipe else [])]


def _bad(file: Path, places: list[tuple[str, str, str]]) -> ContractError:
    return ContractError(*(Violation(str(file), *place) for place in places), remedy="correct the recipe; its fields are in docs/recipes.md")
