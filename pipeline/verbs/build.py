"""Verb `build`: make what a recipe names, and nothing that is there already."""

from __future__ import annotations

import argparse

from interlock.command import Session, emit
from interlock.voice import tell
from pipeline import recipe
from pipeline.driver import session as sessions
from pipeline.driver.graph import Graph, build_graph
from pipeline.driver.plan import Options
from pipeline.launchers import LAUNCHERS


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """What every verb that looks at a build takes."""
    parser.add_argument("recipe", help="a recipe by name (`interlock recipes`) or a file of your own (NAME.toml)")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE",
                        help="a value of the recipe, as in --set compress.method=int8; may be given again")  # fmt: skip
    parser.add_argument("--launcher", choices=[*LAUNCHERS], default="uv", help="how a stage's process is started (default %(default)s)")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Which steps are made anew."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", metavar="STEP", help="just this step and what it needs; nothing after it")
    which.add_argument("--from", dest="first", metavar="STEP", help="make this step, and all that rests on it, again")
    parser.add_argument("--force", action="store_true", help="make every step again, with --only that one")


def add_options(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    add_selection(parser)
    parser.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="stages that run at a time (default %(default)s: each uses all cores)")
    parser.add_argument("--keep-going", action="store_true", help="after a failure make everything that does not rest on it")


def _jobs(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 256:
        return int(text)
    raise argparse.ArgumentTypeError(f"`{text}` is no number of stages between 1 and 256")


def selection(args: argparse.Namespace) -> sessions.Selection:
    return sessions.Selection(args.only, args.first, args.force)


def run(args: argparse.Namespace, session: Session) -> int:
    loaded = recipe.load(args.recipe, args.sets)
    options = Options(jobs=args.jobs, keep_going=args.keep_going, launcher=args.launcher)
    return run_graph(build_graph(loaded), selection(args), options, session, as_json=args.json)


def run_graph(graph: Graph, chosen: sessions.Selection, options: Options, session: Session, *, as_json: bool) -> int:
    """Build, show, end: with the exit code of the first failure. Raises that failure."""
    made = sessions.Session(graph, sessions.Project(), chosen, options)
    report = watched(made)
    if as_json:
        emit(report.as_dict())
    else:
        from pipeline.reports import build as shown

        shown.show(report, made.project.store, made.name)
    if report.interrupted:
        kept = sum(result.state == "made" for result in report.results)
        session.voice.warn(f"interrupted: {kept} finished steps are kept; run the same command again to go on")
        return report.interrupted
    if report.error is not None:
        if not as_json:
            raise report.error
        tell(report.error)  # on stdout it is in the report already
    return report.exit_code


def watched(made: sessions.Session) -> sessions.Report:
    """Build with a live view of every step."""
    if (report := made.up_to_date()) is not None:
        return report
    from pipeline.reports import live

    with live.view_for(made.graph.nodes, made.name) as view:
        return made.build(view)
