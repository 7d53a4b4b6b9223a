"""Verb `train`: the training of a recipe, watched, and its checkpoint placed: `build --only train` for people."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as with_fields

from interlock import fs
from interlock.command import Session
from interlock.errors import UsageError
from pipeline import recipe
from pipeline.driver import session as sessions
from pipeline.driver.graph import Graph, Node, build_graph
from pipeline.driver.plan import Options, View
from pipeline.verbs import build
from pipeline.verbs.pages import outside_artifacts


def add_options(parser: argparse.ArgumentParser) -> None:
    build.add_recipe(parser)
    parser.add_argument("--checkpoint", metavar="SOURCE",
                        help="start from a checkpoint directory, a .pt file or an import source (as --set source.checkpoint=SOURCE)")  # fmt: skip
    parser.add_argument("--output-dir", metavar="DIR", help="place `checkpoint` here (as --set output=DIR; default: where the recipe says)")
    parser.add_argument("--lora", type=int, metavar="RANK",
                        help="train adapters of this rank in place of the weights (as --set train.lora.rank=RANK)")  # fmt: skip
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="also write event files for TensorBoard, a folder for each run")
    parser.add_argument("--force", action="store_true", help="train again, whatever is known")
    parser.add_argument("--dry-run", action="store_true", help="parameters, memory, tokens, epochs and time; trains nothing and changes nothing")


def run(args: argparse.Namespace, session: Session) -> int:
    graph = graph_of(args)
    if args.dry_run:
        from pipeline.verbs import train_estimate

        return train_estimate.run(graph, args, session)
    if args.tensorboard is None:
        return _built(graph, args, session, _view)
    return _recorded(graph, args, session, args.tensorboard)


def _recorded(graph: Graph, args: argparse.Namespace, session: Session, folder: Path) -> int:
    """Train, and write event files into `folder`."""
    from interlock.contracts import checkpoint, io
    from pipeline.reports import training_log
    from pipeline.reports.recorded import EventFiles, Recorded

    outside_artifacts(folder / "events")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"`{folder}` is no folder", remedy="name a folder for event files, there or to be made")
    with fs.named_failures(folder):
        fs.make_parents(fs.Fs(), folder)
    files = EventFiles(folder)
    code = _built(graph, args, session, lambda nodes, name: Recorded(_view(nodes, name), files))
    if code == 0 and not files.begun:  # nothing had to be trained: the log says what was told then
        placed = next(out for out, node in graph.targets[0].placed.items() if node.title == "train")
        lines = training_log.lines_of(placed, io.read_contract(placed / checkpoint.FILE, checkpoint.CheckpointContract))
        files.add("student", lines, time.time())
        files.close()
    if files.lost:
        session.voice.warn(f"event files in {folder} are not whole: the disk took no more")
    session.voice.step(f"event files are in {folder} (tensorboard --logdir {folder})")
    return code


def graph_of(args: argparse.Namespace) -> Graph:
    """The recipe's graph with the checkpoint as its one output. Raises UsageError for a recipe that trains nothing, or many things."""
    sets = list(args.sets)
    sets += [f"source.checkpoint={json.dumps(args.checkpoint)}"] if args.checkpoint else []
    sets += [f"output={json.dumps(args.output_dir)}"] if args.output_dir else []
    sets += [f"train.lora.rank={args.lora}"] if args.lora is not None else []
    loaded = recipe.load(args.recipe, sets)
    if loaded.has_matrix:
        raise UsageError(f"`{args.recipe}` has a [matrix]", remedy=f"train all of it: interlock build {args.recipe} --only train")
    if loaded.common.train is None:
        raise UsageError(f"`{args.recipe}` trains nothing: it has no [train]", remedy="name a recipe that has one, such as `toy` (docs/training.md)")
    (cell,) = loaded.cells
    alone = with_fields(cell.recipe, outputs=["checkpoint"])
    return build_graph(replace(loaded, common=alone, cells=(replace(cell, recipe=alone),)), args.launcher)


def _built(graph: Graph, args: argparse.Namespace, session: Session, watch: build.Watch) -> int:
    chosen = sessions.Selection(only="train", force=args.force)
    return build.run_graph(graph, chosen, Options(launcher=args.launcher), session, as_json=args.json, watch=watch)


def _view(nodes: Iterable[Node], name: Callable[[Node], str]) -> AbstractContextManager[View]:
    nodes = [node for node in nodes if node.stage.name in ("data", "teach", "import", "train")]  # the recipe's others are not asked for
    if sys.stderr.isatty():
        from pipeline.reports.training_live import TrainingView

        return TrainingView(name, nodes)
    from pipeline.reports import live

    return live.view_for(nodes, name)
