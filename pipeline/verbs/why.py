"""Verb `why`: the one thing that made a step run, or that it is still the same."""

from __future__ import annotations

import argparse

from interlock.command import Session, emit
from interlock.errors import UsageError
from interlock.voice import plain
from pipeline import recipe
from pipeline.driver import session as sessions
from pipeline.driver.forecast import explain, forecast
from pipeline.driver.graph import build_graph
from pipeline.driver.plan import Options
from pipeline.launchers import LAUNCHERS, default_launcher


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("step", help="a step of the recipe, as `interlock plan` lists them")
    parser.add_argument("--recipe", help="the recipe (default: the one that was built last here)")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="as given to `interlock build`")
    parser.add_argument("--launcher", choices=[*LAUNCHERS], default=default_launcher(), help="as given to `interlock build`")


def run(args: argparse.Namespace, session: Session) -> int:
    project = sessions.Project()
    last = sessions.last_build(project)
    name = args.recipe or last.get("file")
    if not name:
        raise UsageError("nothing was built here yet", remedy="name the recipe with --recipe, or build one")
    sets = args.sets or ([] if args.recipe else last.get("sets", []))
    looked = sessions.Session(build_graph(recipe.load(name, sets), args.launcher), project, None, Options(launcher=args.launcher))
    looked.look()
    items = [item for item in forecast(looked) if args.step in (item.title, item.node.title)]
    if not items:
        known = ", ".join(sorted({step.node.title for step in looked.planner.steps.values()}))
        raise UsageError(f"recipe `{looked.graph.name}` has no step `{args.step}`", remedy=f"there are {known}")
    answers = [explain(looked, item) for item in items]
    if args.json:
        emit({"recipe": looked.graph.name, "steps": answers})
        return 0
    for answer in answers:
        if answer["last"]:
            print(plain(f"{answer['step']}: in the last build {answer['last']['told']}"))
            for reason in answer["last"]["why"]:
                print(plain(f"  {reason}"))
        state = answer["now"]["state"]
        now = {"kept": "it would be kept", "run": "it would run", "waits": "it would be looked at again"}.get(state, f"it is {state}")
        print(plain(f"{answer['step']}: now {now}"))
        for reason in answer["now"]["why"]:
            print(plain(f"  {reason}"))
    return 0
