"""The docs are true where a machine can tell: options, fields, links, paths, names, targets. A failure says what to do."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.shell import module
from pydantic import BaseModel

import interlock.contracts
from interlock.command import parser
from interlock.contracts.base import Contract, Frozen
from interlock.environments import ROOT
from interlock.errors import UsageError
from pipeline.ci import works
from pipeline.driver.keys import module_file
from pipeline.verbs import VERBS
from runtime.config import ENVIRONMENT, RuntimeConfig

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRACTS = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
# `conversion.export_pytorch` and the like are the guide's names, not ours.
OURS = re.compile(r"(?:interlock|pipeline|runtime)(?:\.\w+)+")
# What a build or the set-up makes: docs may name it, a fresh clone has none of it.
MADE = (".interlock/", ".tox/", ".venv/", ".uv/", ".venv/", "models/", "envs/train/.venv", "envs/export/.venv")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code(text: str) -> Iterator[str]:
    """Inline code, and the lines of fenced blocks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    yield from (line.strip() for block in fenced for line in block.splitlines())
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)))


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    assert found, f"no heading `{title}`"
    return found[1]


def ids(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_the_command_reference_is_what_the_parsers_say() -> None:
    script = runpy.run_path(str(ROOT / "ci" / "cli_reference.py"))
    assert text_of(script["PAGE"]) == script["reference"](), f"docs/cli.md is out of date: run `{script['REPAIR']}`"


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_the_readme_has_an_example_of_each_verb(verb: str) -> None:
    assert any(line.startswith(f"interlock {verb} ") for line in code(README))


def test_every_option_of_the_guides_entry_to_inference_is_documented() -> None:
    said = module("runtime.inference_production", "--help")
    assert said.code == 0
    documented = README + text_of(ROOT / "docs" / "cli.md")
    assert [option for option in set(re.findall(r"--[a-z][a-z-]+", said.out)) if f"`{option}`" not in documented and option != "--help"] == []


def models() -> Iterator[type[BaseModel]]:
    for info in pkgutil.iter_modules(interlock.contracts.__path__):
        named = importlib.import_module(f"interlock.contracts.{info.name}")
        own = (model for model in vars(named).values() if isinstance(model, type) and model.__module__ == named.__name__)
        yield from (model for model in own if issubclass(model, Frozen) and model is not Frozen)
    yield RuntimeConfig


@pytest.mark.parametrize("model", [*models()], ids=lambda model: model.__name__)
def test_docs_contracts_has_one_row_for_each_field_of_a_model(model: type[BaseModel]) -> None:
    header = set(Contract.model_fields) if issubclass(model, Contract) and model is not Contract else set()
    rows = set(re.findall(r"^\| `(\w+)`", section(CONTRACTS, model.__name__), re.M))
    assert rows == set(model.model_fields) - header, f"docs/contracts.md, `{model.__name__}`: a row for each field and no other"


def test_docs_contracts_names_every_environment_variable_of_the_runtime() -> None:
    assert [name for name in ENVIRONMENT if f"`{name}`" not in CONTRACTS] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_relative_links_resolve(page: Path) -> None:
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def anchors(page: Path) -> set[str]:
    """What a link may name within a page, as hosts of Markdown derive it from headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_into_pages_name_a_heading(page: Path) -> None:
    links = [target.partition("#") for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)) if "://" not in target]
    named = [(page.parent / path if path else page, anchor) for path, _, anchor in links if anchor]
    assert [f"{target.name}#{anchor}" for target, anchor in named if target.suffix == ".md" and anchor not in anchors(target)] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_command_lines_in_blocks_parse(page: Path) -> None:
    """Every `interlock VERB …` of a shell block is one that the verb's own parser takes."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text_of(page), re.M | re.S)
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines() if line.startswith("interlock ")]
    for line in lines:
        name, *words = shlex.split(line, comments=True)[1:]
        (verb,) = [verb for verb in VERBS if verb.name == name]
        options = parser(f"interlock {name}", verb.summary, verb.example)
        importlib.import_module(verb.module).add_options(options)
        try:
            options.parse_args(words)
        except UsageError as error:
            pytest.fail(f"{line}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_verbs_and_tox_environments_in_code_exist(page: Path) -> None:
    spans = list(code(text_of(page)))
    verbs = {found[1] for span in spans if (found := re.match(r"interlock ([a-z][\w-]*)(?=\s|$)", span))}
    assert verbs - {verb.name for verb in VERBS} == set()
    named = {name for span in spans for found in re.findall(r"\btox (?:run )?-e ([\w.,-]+)", span) for name in found.split(",") if name.islower()}
    named |= {name for span in spans if span.startswith("ci/test ") for name in span.split()[1:] if re.fullmatch(r"[a-z][\w-]+", name)}
    assert named - works().keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_paths_in_code_exist(page: Path) -> None:
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()}
    named = [word for span in code(text_of(page)) for word in span.split() if "/" in word and word.partition("/")[0] in rooms]
    plain = [word for word in named if re.fullmatch(r"[\w./-]+", word) and not word.startswith(MADE)]
    assert [word for word in plain if not (ROOT / word).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_make_targets_in_code_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {span.split()[1] for span in code(text_of(page)) if re.match(r"make [a-z]", span)}
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_modules_and_functions_in_code_exist(page: Path) -> None:
    assert [name for name in code(text_of(page)) if OURS.fullmatch(name) and not is_defined(name)] == []


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module of ours, or a class, function, method, field or constant in one."""
    parts = name.split(".")
    depth = next(depth for depth in range(len(parts), 0, -1) if module_file(".".join(parts[:depth])))
    file = module_file(".".join(parts[:depth]))
    assert file
    stub = file.with_suffix(".pyi")  # declares what a package hands out by __getattr__
    body: list[ast.stmt] = ast.parse((stub if stub.is_file() else file).read_bytes()).body
    for part in parts[depth:]:
        found = next((node for node in body if part in bound(node)), None)
        if found is None:
            return False
        body = getattr(found, "body", [])
    return True


def bound(node: ast.stmt) -> set[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname for alias in node.names if alias.asname}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}


def test_the_tree_in_the_readme_is_the_tree() -> None:
    shown = {line.split()[0].rstrip("/") for line in section(README, "The tree").splitlines() if re.match(r"[\w.]+\S*  +\S", line)}
    assert sorted(path for path in shown if not (ROOT / path).exists()) == [], "the tree of README.md shows rooms that are not there"
    tops = ("interlock", "pipeline", "runtime", "eval", "benchmarks")
    rooms = {file.parent.relative_to(ROOT).as_posix() for top in tops for file in (ROOT / top).rglob("__init__.py")}
    assert sorted(rooms - shown) == [], "add a line for each to the tree of README.md"


def test_the_entries_of_the_guide_map_to_entries_of_ours() -> None:
    ours = re.findall(r"^\| `[\w.]+` \| `([\w.]+)`", section(README, "Commands of the deployment guide"), re.M)
    assert len(ours) == 7
    assert [name for name in ours if module_file(name) is None] == []
