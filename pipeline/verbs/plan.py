"""Verb `plan`: what a build would run, why, and how long that took before."""

from __future__ import annotations

import argparse

from interlock.command import Session, emit
from pipeline import recipe
from pipeline.driver import session as sessions
from pipeline.driver.forecast import forecast
from pipeline.driver.graph import build_graph
from pipeline.driver.plan import Options
from pipeline.verbs import build


def add_options(parser: argparse.ArgumentParser) -> None:
    build.add_recipe(parser)
    build.add_selection(parser)


def run(args: argparse.Namespace, session: Session) -> int:
    graph = build_graph(recipe.load(args.recipe, args.sets), args.launcher)
    looked = sessions.Session(graph, sessions.Project(), build.selection(args), Options(launcher=args.launcher))
    looked.look()
    found = forecast(looked)
    missing = looked.missing_outputs()
    from pipeline.reports import build as shown

    if args.json:
        emit(shown.plan_dict(found, missing))
    else:
        shown.show_plan(found, missing)
    return 0
