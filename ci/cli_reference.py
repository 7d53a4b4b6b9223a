"""docs/cli.md from the parsers themselves: every verb, its environment, an example, and each option with its default.

Here: the page's text. Not here: the options (they live beside what they run). Run: `envs/train/.venv/bin/python ci/cli_reference.py`;
tests/house/test_docs.py compares. argparse's own help is not copied: its layout differs between the two interpreters.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

from interlock.command import parser
from pipeline.verbs import VERBS, Verb

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
REPAIR = "envs/train/.venv/bin/python ci/cli_reference.py"


def reference() -> str:
    """The whole page."""
    verbs = "\n".join(f"* [`interlock {verb.name}`](#interlock-{verb.name}): {verb.summary}" for verb in VERBS)
    head = f"# Command line\n\nGenerated from the parsers by `{REPAIR}`; a test keeps it in step.\n\n{verbs}\n"
    return "\n".join([head, *(_section(verb) for verb in VERBS)])


def _section(verb: Verb) -> str:
    options = parser(f"interlock {verb.name}", verb.summary, verb.example)
    importlib.import_module(verb.module).add_options(options)
    where = f"Runs in environment `{verb.environment}`." if verb.environment else "Runs in any environment."
    head = f"## interlock {verb.name}\n\n{verb.summary[:1].upper()}{verb.summary[1:]}. {where}\n\n```sh\n{verb.example}\n```\n"
    actions = [action for action in options._actions if isinstance(action, argparse._SubParsersAction)]
    below = [_action(one) for group in actions for one in group.choices.values()]
    return "\n".join([head, *(below or [_table(options)])])


def _action(options: argparse.ArgumentParser) -> str:
    """One action of a verb that has several, each with options of its own."""
    summary, (_, example) = str(options.description), str(options.epilog).split("\n", 1)
    return f"### {options.prog}\n\n{summary[:1].upper()}{summary[1:]}.\n\n```sh\n{example.strip()}\n```\n\n{_table(options)}"


def _table(options: argparse.ArgumentParser) -> str:
    return "\n".join(["| option | meaning |", "|---|---|", *_rows(options), ""])


def _rows(options: argparse.ArgumentParser) -> Iterator[str]:
    for action in options._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        names = " ".join(f"`{name}`" for name in action.option_strings) or f"`{(action.metavar or action.dest)}`"
        value = "" if action.nargs == 0 or not action.option_strings else f" {_value(action)}"
        needed = " (required)" if action.required and action.option_strings else ""
        meaning = str(action.help) % {**vars(action), "prog": options.prog}
        yield f"| {names}{value} | {_cell(meaning)}{needed} |"


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        return _cell(" | ".join(f"`{choice}`" for choice in action.choices))
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return f"{name} …" if action.nargs == "+" else name


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
