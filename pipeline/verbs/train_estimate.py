"""`train --dry-run`: what the training of a recipe would take, found out in its own environment without making or keeping anything.

Here: rows and student from where the build would take them. Not here: the figures (pipeline/training/estimate.py), the verb (train.py).
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.command import Session, emit
from interlock.errors import UsageError, refuse
from pipeline.driver import session as sessions
from pipeline.driver.graph import Given, Graph, Node
from pipeline.driver.plan import Options

if TYPE_CHECKING:
    from pipeline.datasets.rows import Row
    from pipeline.training.encoding import Origin
    from pipeline.training.estimate import Estimate

SPLITS = ("train", "validation")


def run(graph: Graph, args: argparse.Namespace, session: Session) -> int:
    from pipeline import cli

    cli.enter("train", session)
    looked = sessions.Session(graph, sessions.Project(), sessions.Selection(only="train"), Options(launcher=args.launcher))
    looked.look()
    found = _estimate(looked, session)
    before = _before(looked)
    from pipeline.reports import estimate as shown

    if args.json:
        emit(shown.estimate_dict(found, before))
    else:
        shown.show(found, before)
    return 0


def _before(looked: sessions.Session) -> tuple[float, bool] | None:
    """Seconds that this very training took here (True), or else the last one of the recipe (False); None where there was none."""
    from pipeline.driver.forecast import forecast

    step = next(step for step in looked.planner.steps.values() if step.node.title == "train")
    if step.action is not None and isinstance(step.action.get("wall_s"), float | int):
        return step.action["wall_s"], True
    last = [item.wall_s for item in forecast(looked) if item.node is step.node and item.last and item.wall_s is not None]
    return (last[0], False) if last else None


def _estimate(looked: sessions.Session, session: Session) -> Estimate:
    node = next(step.node for step in looked.planner.steps.values() if step.node.title == "train")
    rows, origins = _rows(looked, node.inputs["dataset"], session)
    with session.voice.task("load torch"):
        from pipeline.driver.children import resident_bytes
        from pipeline.stages import train
        from pipeline.training import code_mode, encoding
        from pipeline.training.estimate import estimated
        from pipeline.training.loop import Data
        from pipeline.training.model import Trained
    begun = _artifact(looked, node.inputs["start"]) if "start" in node.inputs else None
    if "start" in node.inputs and begun is None:
        raise UsageError("the checkpoint to start from is not brought in yet", remedy="bring it in: interlock build RECIPE --only import")
    places = {"out": ".", "dataset": ".", "start": str(begun) if begun else None}  # of these only `start` is read
    params = train.Params.model_validate_json(json.dumps(node.params | places | {"toy": node.toy}))
    start = train.start_of(params, rows["train"], origins["train"].registry, session.voice)
    special = encoding.special_of(start.info, spans=params.settings.latent is not None)
    pairs = code_mode.counted(params.settings.code_mode)
    most = start.arch.max_position
    encoded = {name: encoding.encoded(rows[name], start.tokenizer, most, origins[name], session.voice, None, pairs) for name in SPLITS}
    others = resident_bytes(os.getpid())
    trained = Trained(train.student_of(params, start), params.settings, special)
    with session.voice.task("take some steps"):
        return estimated(trained, Data(encoded["train"], encoded["validation"], ""), params.settings, others)


def _rows(looked: sessions.Session, source: Node | Given, session: Session) -> tuple[dict[str, tuple[Row, ...]], dict[str, Origin]]:
    """The rows of both splits and where they come from: read where the dataset lies, made in memory where it does not."""
    from interlock.contracts import dataset, io
    from pipeline.datasets.reading import read_split
    from pipeline.training.encoding import origin

    if (directory := _artifact(looked, source)) is not None:
        contract = io.read_contract(directory / dataset.FILE, dataset.DatasetContract)
        if missing := set(SPLITS) - set(contract.splits):
            raise refuse(directory, "/splits", expected="`train` and `validation`", found=f"no `{min(missing)}`", remedy="make it with both")
        rows = {name: read_split(directory, contract, name, session.voice) for name in SPLITS}
        return rows, {name: origin(directory, contract, name, rows[name]) for name in SPLITS}
    assert isinstance(source, Node)
    if source.stage.name == "teach":
        raise UsageError("the teacher's answers are not there yet", remedy="have them made: interlock build RECIPE --only teach")
    return _made(source, session)


def _made(node: Node, session: Session) -> tuple[dict[str, tuple[Row, ...]], dict[str, Origin]]:
    """What stage `data` would write."""
    from pipeline.datasets import generators, tasks
    from pipeline.datasets.rows import likeness
    from pipeline.training.encoding import Origin

    chosen = generators.task(node.params["task"])
    parameters = tasks.settled(chosen, node.params["parameters"])
    taken: set[bytes] = set()
    found: dict[str, tuple[Row, ...]] = {}
    for name in tasks.SPLITS:
        own = {key: value for key, value in parameters.items() if key not in chosen.rows}
        with session.voice.task(f"rows of {name}"):
            found[name] = tuple(chosen.make(tasks.Order(node.params["seed"], name, int(parameters[name]), own, frozenset(taken))))
        taken |= {likeness(row.given) for row in found[name]}
    return found, {name: Origin(name, partial(_place, name), chosen.registry or {}) for name in found}


def _place(split: str, number: int) -> tuple[str, str]:
    return split, f"row {number + 1}"


def _artifact(looked: sessions.Session, source: Node | Given) -> Path | None:
    """The directory of an input, None where it is still to be made."""
    if isinstance(source, Given):
        return source.path
    digest = looked.planner.steps[source.identity].digest
    path = looked.project.store.object_path(digest) if digest else None
    return path if path is not None and path.is_dir() else None
