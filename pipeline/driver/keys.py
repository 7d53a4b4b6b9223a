"""Stage keys: what a stage's output depends on, as a preimage that can be kept and compared.

Here: the import closure of a stage's module, by syntax tree, and the preimage built on it. Not here: deciding what to run (driver/chain.py).
Comments, layout and docstrings do not count: a key changes when behaviour may.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from interlock.contracts.base import canonical_json
from interlock.environments import ROOT, Environment, platform_name

PACKAGES = ("interlock", "pipeline", "runtime", "eval")


@cache
def module_file(module: str) -> Path | None:
    """The source file of a module of ours, or None."""
    if module.split(".")[0] not in PACKAGES:
        return None
    base = ROOT.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


@cache
def closure(module: str) -> dict[str, Path]:
    """Every module of ours that `module` imports, directly or through others, anywhere in its code; itself and parent packages included."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = module_file(name)
        if file is None or name in found:
            continue
        found[name] = file
        waiting += [name.rpartition(".")[0], *_imports(file)]
    return dict(sorted(found.items()))


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes())


def _imports(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@cache
def _file_digest(file: Path) -> str:
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def source_files(module: str) -> dict[str, str]:
    """Digest of each module in the import closure, by name."""
    return {name: _file_digest(file) for name, file in closure(module).items()}


def source_digest(module: str) -> str:
    """One digest over the import closure."""
    return hashlib.sha256(canonical_json(source_files(module))).hexdigest()


def preimage(module: str, env: Environment, params: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    """Everything that decides a stage's output. `inputs` are contract digests, or the sha256 of foreign files, by name."""
    return {
        "source": source_files(module),
        "environment": {"name": env.name, "lock": env.lock_digest, "requires_python": env.requires_python, "platform": platform_name()},
        "params": params,
        "inputs": inputs,
    }
