"""Two contracts of one kind, field by field.

Here: which fields decide, and the figures of gates side by side. Not here: files and their content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from interlock.contracts.base import Contract
from interlock.contracts.evaluation import EvaluationContract
from interlock.contracts.export import ExportContract
from interlock.contracts.package import PackageContract
from pipeline.comparison.records import Change, Figure, Found, Weight

# Said elsewhere: of the document itself, compared by file, or digests of what is compared.
_SKIPPED = ("/kind", "/schema_version", "/digest", "/seal", "/files", "/export_digest", "/package_digest", "/tree_digest", "/tokenizer/sha256")
# Figures have a table of their own; operations are counted in the graphs.
_TABLED = ("/gate/evidence", "/shape_validation/results", "/facts/functions/*/operations", "/drift/operations", "/drift/evidence")
_WEIGHTS: dict[str, Weight] = {
    "/created_by": "origin",
    "/inputs": "origin",
    "/source": "origin",
    "/gate/reference_digest": "origin",
    "/compression/made_from": "origin",
    "/compression": "storage",
    "/dtype": "storage",
    "/facts/weight_bytes": "storage",
    "/facts/metadata": "storage",
    "/gate": "measured",
    "/gates": "measured",
    "/gates_passed": "measured",
    "/drift": "measured",
    "/messages": "measured",
}
_LONGEST = 200


def compare_fields(part: str, a: Contract, b: Contract) -> Found:
    """Every field that the two contracts do not share, and their figures."""
    return Found(changes=tuple(_changes(part, a.model_dump(mode="json"), b.model_dump(mode="json"))), figures=tuple(_figures(part, a, b)))


def compare_documents(part: str, a: dict[str, Any], b: dict[str, Any]) -> Found:
    """Two JSON objects of which every field decides."""
    return Found(changes=tuple(Change(part=part, place=place, weight="decides", a=x, b=y) for place, x, y in _differing(a, b)))


def _changes(part: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Change]:
    for place, x, y in _differing(a, b):
        if not _under(place, _SKIPPED) and not _under(place, _TABLED):
            yield Change(part=part, place=place, weight=_weight(place), a=x, b=y)


def _differing(a: dict[str, Any], b: dict[str, Any]) -> Iterator[tuple[str, str | None, str | None]]:
    one, other = dict(_leaves(a, "")), dict(_leaves(b, ""))
    for place in dict.fromkeys((*one, *other)):
        if one.get(place) != other.get(place):
            yield place, one.get(place), other.get(place)


def _leaves(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Objects field by field; lists as a whole: their places mean nothing on the other side."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{place}/{key}")
        return
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    yield place, text if len(text) <= _LONGEST else f"{text[: _LONGEST - 24]}… ({len(text)} characters)"


def _weight(place: str) -> Weight:
    return next((weight for prefix, weight in _WEIGHTS.items() if _under(place, (prefix,))), "decides")


def _under(place: str, prefixes: tuple[str, ...]) -> bool:
    """`*` in a prefix stands for one name."""
    parts = place.split("/")
    return any(
        len(parts) >= len(wanted) and all(want in ("*", part) for want, part in zip(wanted, parts, strict=False))
        for wanted in (prefix.split("/") for prefix in prefixes)
    )


def _figures(part: str, a: Contract, b: Contract) -> Iterator[Figure]:
    one, other = dict(_measured(a)), dict(_measured(b))
    for place, unit in dict.fromkeys((*one, *other)):
        yield Figure(part=part, place=place, unit=unit, a=one.get((place, unit)), b=other.get((place, unit)))


def _measured(contract: Contract) -> Iterator[tuple[tuple[str, str], float | None]]:
    """((what was measured, unit), figure)."""
    if isinstance(contract, ExportContract):
        for length, result in contract.shape_validation.results.items():
            yield (f"{length} tokens, prefill", "dB"), result.psnr_db
            yield (f"{length} tokens, greatest", "KL"), result.kl_max
            yield (f"{length} tokens, decode", "dB"), result.decode_psnr_db
    if isinstance(contract, PackageContract):
        for item in contract.gate.evidence:
            use = ", ".join(
                filter(None, (item.function, f"{item.tokens} tokens", item.case, item.against and f"against {item.against}", item.output))
            )
            yield (use, "dB"), item.psnr_db
            if item.kl_max is not None:
                yield (f"{use}, mean", "KL"), item.kl_mean
                yield (f"{use}, greatest", "KL"), item.kl_max
    if isinstance(contract, EvaluationContract):
        for gate in contract.gates:
            yield (f"{gate.name}, {gate.metric}", ""), gate.measured
