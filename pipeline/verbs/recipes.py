"""Verb `recipes`: what can be built by name, and what a recipe says."""

from __future__ import annotations

import argparse

import msgspec

from interlock.command import Session, emit
from interlock.voice import plain
from pipeline import recipe


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", help="show this one with every value, defaults included")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="as given to `interlock build`")


def run(args: argparse.Namespace, session: Session) -> int:
    if args.recipe:
        loaded = recipe.load(args.recipe, args.sets)
        document = msgspec.to_builtins(loaded.common)
        if args.json:
            emit({"recipe": loaded.name, "cells": [cell.name for cell in loaded.cells if cell.name], "values": document})
        else:
            print(plain(str(loaded.file)))
            print("\n".join(_lines(document)))
            print("\n".join(f"cell {plain(cell.name)}" for cell in loaded.cells if cell.name))
        return 0
    known = {name: recipe.load(name).common.description for name in recipe.shipped()}
    if args.json:
        emit({"recipes": known})
        return 0
    for name, description in known.items():
        print(f"{name:<12}  {plain(description)}")
    return 0


def _lines(table: dict[str, object], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += _lines(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key} = {msgspec.json.encode(value).decode()}")
    return found
