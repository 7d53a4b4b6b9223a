"""Why a step runs, or does not: two preimages compared down to the leaf that differs.

Here: naming leaves. Not here: making preimages (plan.py, keys.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Details = Callable[[str], dict[str, Any]]


def leaves(old: dict[str, Any], new: dict[str, Any], details: Details) -> list[str]:
    """What changed from one preimage to the next, the most telling first: a definition in a file, a package, a parameter, an input.

    `details` gives what a digest in a preimage stands for (empty where that is gone).
    """
    found: list[str] = []
    if old["source"] != new["source"]:
        found += _sources(details(old["source"]), details(new["source"]))
    found += _environment(old["environment"], new["environment"], details)
    found += _values("package", old.get("packages", {}), new.get("packages", {}))
    found += _gates(old.get("gates", []), new.get("gates", []), details)
    found += _values("parameter", old["params"], new["params"])
    found += _inputs(old["inputs"], new["inputs"])
    found += _values("", {"toy": old["toy"]}, {"toy": new["toy"]})
    return found


def _sources(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    if not old or not new:
        return ["source: another version (its details are gone from the store)"]
    found: list[str] = []
    for module in sorted(old.keys() | new.keys()):
        before, after = old.get(module), new.get(module)
        if before == after:
            continue
        name = module if "/" in module else f"{module.replace('.', '/')}.py"
        if before is None or after is None:
            found.append(f"source {name}: {'new' if before is None else 'no longer imported'}")
        elif isinstance(before, dict) and isinstance(after, dict):
            parts = sorted(part for part in before.keys() | after.keys() if part and before.get(part) != after.get(part))
            found += [f"source {name}: `{part}` {_how(before.get(part), after.get(part))}" for part in parts] or [
                f"source {name}: order of definitions"
            ]
        else:
            found.append(f"source {name}: other bytes")
    # A file that a change brought in or left out is told by that change.
    return sorted(found, key=lambda line: line.endswith(("new", "no longer imported")))


def _gates(old: list[dict[str, Any]], new: list[dict[str, Any]], details: Details) -> Iterator[str]:
    """What changed of the gates of other packages that a step has to pass."""
    before, after = ({f"gate {gate['gate']}": gate for gate in gates} for gates in (old, new))
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield f"{name}: {_how(before.get(name), after.get(name))}"
            continue
        was, now = before[name], after[name]
        if was["source"] != now["source"]:
            yield from (f"{name}, {leaf}" for leaf in _sources(details(was["source"]), details(now["source"])))
        yield from _values(f"{name}, package", was["packages"], now["packages"])
        yield from _values(f"{name}, parameter", was["params"], now["params"])


def _how(before: object, after: object) -> str:
    return "is new" if before is None else "is gone" if after is None else "changed"


def _environment(old: dict[str, str], new: dict[str, str], details: Details) -> Iterator[str]:
    name = new["name"]
    if old["lock"] != new["lock"]:
        before, after = details(old["lock"]).get("packages", {}), details(new["lock"]).get("packages", {})
        moved = [
            f"{package} {before.get(package, 'absent')} → {after.get(package, 'absent')}"
            for package in sorted(before.keys() | after.keys())
            if before.get(package) != after.get(package)
        ]
        yield f"environment {name}: " + (", ".join(moved) if moved else "the lock has other files for the same versions")
    for field, label in (("python", "Python"), ("requires_python", "requires-python"), ("platform", "platform"), ("name", "environment")):
        if old[field] != new[field]:
            yield f"environment {name}: {label} {old[field]} → {new[field]}"


def _values(what: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            inner = ({f"{name}.{key}": value for key, value in one.items()} for one in (before, after))
            yield from _values(what, *inner)
        elif before != after:
            yield f"{what} {name}: {_shown(before)} → {_shown(after)}".strip()


def _inputs(old: dict[str, str], new: dict[str, str]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield f"input {name}: " + ("is new" if before is None else "is gone" if after is None else f"{before[:12]} → {after[:12]}")


def _shown(value: object) -> str:
    return "the default" if value is None else str(value)
