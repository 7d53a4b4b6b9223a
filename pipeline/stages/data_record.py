"""Stage `data-record`: a dataset with tools and a log of real calls in, the dataset with their results among its fixtures out.

Here: which lines of the log become fixtures, and what of the dataset stays. Not here: what a fixture is, replaying (eval/broker).
Recording is an act of its own. A line has `name`, `arguments` (or `key`, as in `fixtures-missing.jsonl` of an evaluation) and `result`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.broker.replay import recorded
from eval.calls import Call
from interlock.canonical import canonical_json
from interlock.contracts.base import InputRef
from interlock.contracts.dataset import DatasetContract, Tools
from interlock.errors import ContractError, UsageError, Violation
from interlock.fs import Workspace
from interlock.voice import Voice
from pipeline.datasets.reading import parsed, raw_lines
from pipeline.datasets.tools import FIXTURES, read_fixtures, read_registry
from pipeline.driver import stage


class Params(stage.Params):
    """`results` is the log."""

    dataset: Path
    results: Path


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    contract = stage.read_input(params.dataset, DatasetContract, voice, toy=params.toy)
    if contract.tools is None:
        raise UsageError(f"`{params.dataset}` has no tools to record", remedy="name a dataset with tools: `interlock data make contextual`")
    registry = read_registry(params.dataset / contract.tools.registry)
    known, wrong = read_fixtures((params.dataset / file for file in contract.tools.fixtures), registry)
    if wrong:
        raise ContractError(*wrong, remedy="mend the dataset first: `interlock data check` says how")
    new = {one.digest: one for one in recorded(registry, _calls(params.results))}
    if changed := [one for name, one in new.items() if name in known and known[name] != one]:
        where = f"`{changed[0].name}` {canonical_json(changed[0].key).decode()}"
        raise UsageError(f"the dataset has another result of {where}", remedy="a replay has one: take that line out of the log")
    fixtures = {**known, **new}
    kept = [file for split in contract.splits.values() for file in split.files] + [contract.tools.registry]
    for file in [*kept, *(contract.teaching.files if contract.teaching else ())]:
        work.copy(params.dataset / file, file)
    work.stream(FIXTURES, (canonical_json(fixtures[name].model_dump()) + b"\n" for name in sorted(fixtures)))
    voice.step(f"{len(new)} results recorded, {len(fixtures)} in all")
    own = {name: getattr(contract, name) for name in ("task", "generator", "origin", "splits", "tokenizer", "teaching", "licence")}
    tools = Tools(registry=contract.tools.registry, fixtures=(FIXTURES,), source="recorded")
    return stage.Outcome({**own, "tools": tools}, (InputRef(kind="dataset", digest=contract.digest),), toy=contract.toy)


STAGE = stage.Stage("data-record", "train", "dataset", Params, work, __name__, reads=("results",))


def _calls(log: Path) -> Iterator[tuple[Call, dict[str, Any]]]:
    """Raises ContractError with the line of what is no call with its result."""
    for number, line in raw_lines(log):
        document, wrong = parsed(log, number, line)
        if document is None:
            raise ContractError(*wrong, remedy="give one JSON object per line: `name`, `arguments`, `result`")
        name, arguments, result = document.get("name"), document.get("arguments", document.get("key")), document.get("result")
        if not (isinstance(name, str) and isinstance(arguments, dict) and isinstance(result, dict)):
            told = Violation(str(log), f"line {number}", "`name`, `arguments` and the `result` that the tool gave", ", ".join(document))
            raise ContractError(told, remedy="fill in the results of a file of stubs, or leave the line out")
        yield Call(name, arguments), result
