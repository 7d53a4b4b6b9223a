"""Verb `build`: make what a recipe names, and nothing that is there already."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from interlock.command import Session, emit
from interlock.errors import GateFailed, InterlockError, UsageError
from interlock.voice import tell
from pipeline import recipe
from pipeline.driver import matrix
from pipeline.driver import session as sessions
from pipeline.driver.graph import Graph, Node, build_graph
from pipeline.driver.plan import Options, View
from pipeline.launchers import LAUNCHERS, default_launcher

# Makes a view of a build's nodes, which it names.
Watch = Callable[[Iterable[Node], Callable[[Node], str]], AbstractContextManager[View]]


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """What every verb that looks at a build takes."""
    parser.add_argument("recipe", help="a recipe by name (`interlock recipes`) or a file of your own (NAME.toml)")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE",
                        help="a value of the recipe, as in --set compress.method=int8; may be given again")  # fmt: skip
    parser.add_argument("--launcher", choices=[*LAUNCHERS], default=default_launcher(),
                        help="how a stage's process is started (default $INTERLOCK_LAUNCHER, or uv)")  # fmt: skip


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
    parser.add_argument("--best", metavar="RULE",
                        help='of a recipe with a [matrix]: place the winner, as in "smallest where all gates pass"')  # fmt: skip
    parser.add_argument("--paranoid", action="store_true", help="read every byte of the outputs instead of trusting sizes and times")
    parser.add_argument("--keep-going", action="store_true", help="after a failure make everything that does not rest on it")


def _jobs(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 256:
        return int(text)
    raise argparse.ArgumentTypeError(f"`{text}` is no number of stages between 1 and 256")


def selection(args: argparse.Namespace) -> sessions.Selection:
    return sessions.Selection(args.only, args.first, args.force)


def run(args: argparse.Namespace, session: Session) -> int:
    loaded = recipe.load(args.recipe, args.sets)
    options = Options(jobs=args.jobs, keep_going=args.keep_going, launcher=args.launcher, paranoid=args.paranoid)
    rule = matrix.parse_rule(args.best) if args.best else None
    if rule and not loaded.has_matrix:
        raise UsageError(f"--best chooses among the cells of a [matrix], and `{args.recipe}` has none", remedy="leave it out")
    if loaded.has_matrix:
        return _matrix(loaded, rule, selection(args), options, session, as_json=args.json)
    return run_graph(build_graph(loaded, args.launcher), selection(args), options, session, as_json=args.json)


def run_graph(graph: Graph, chosen: sessions.Selection, options: Options, session: Session, *, as_json: bool, watch: Watch | None = None) -> int:
    """Build, show, end: with the exit code of the first failure. Raises that failure. `watch`: who sees what happens, where not the usual view."""
    made = sessions.Session(graph, sessions.Project(), chosen, options)
    report = watched(made, watch)
    if as_json:
        emit(report.as_dict())
    else:
        from pipeline.reports import build as shown

        shown.show(report, made.project.store, made.name)
    if report.interrupted:
        return _interrupted(report, session)
    if report.error is not None:
        if not as_json:
            raise report.error
        tell(report.error)  # on stdout it is in the report already
    return report.exit_code


def _matrix(loaded: recipe.Loaded, rule: matrix.Rule | None, chosen: sessions.Selection, options: Options, session: Session, *, as_json: bool) -> int:
    """Build every cell, compare them, and place the winner where a rule names one."""
    made = sessions.Session(build_graph(loaded, options.launcher), sessions.Project(), chosen, options)
    report = watched(made)
    rows = made.rows(report)
    best = rule.choose(rows) if rule else None
    placed = None
    if best is not None:
        alone = recipe.Loaded(loaded.name, loaded.file, loaded.common, tuple(cell for cell in loaded.cells if cell.name == best.cell), False)
        placed = watched(sessions.Session(build_graph(alone, options.launcher), made.project, None, options))
    from pipeline.reports import build as shown

    if as_json:
        emit(report.as_dict() | shown.matrix_dict(rows, best, placed))
    else:
        shown.show_matrix(rows, best, placed, report)
    if report.interrupted:
        return _interrupted(report, session)
    error = (placed.error if placed else None) or _matrix_error(rule, best, report)
    if error is not None:
        if not as_json:
            raise error
        tell(error)
        return error.exit_code
    return 0


def _matrix_error(rule: matrix.Rule | None, best: matrix.Row | None, report: sessions.Report) -> InterlockError | None:
    if rule is None:
        return report.error
    if best is None:
        told = f"no cell fits `{rule.text}`"
        return report.hard_error or GateFailed(told, measured="see the table", threshold=rule.text, remedy="loosen the rule, or widen the matrix")
    return report.hard_error


def _interrupted(report: sessions.Report, session: Session) -> int:
    kept = sum(result.state == "made" for result in report.results)
    session.voice.warn(f"interrupted: {kept} finished steps are kept; run the same command again to go on")
    return report.interrupted or 0


def watched(made: sessions.Session, watch: Watch | None = None) -> sessions.Report:
    """Build with a live view of every step."""
    if (report := made.up_to_date()) is not None:
        return report
    from pipeline.reports import live

    with (watch or live.view_for)(made.graph.nodes, made.name) as view:
        return made.build(view)
