"""Stage keys: what a stage's output depends on, as a preimage that can be kept and compared.

Here: the import closure of a stage's module, by syntax tree, and the preimage built on it. Not here: deciding what to run (driver/build.py),
comparing preimages (driver/why.py).
Comments, layout, annotations' spelling and docstrings do not count: a key changes when behaviour may. A file of data counts when a module of its
package names it. The same tree has the same digest in every Python that runs interlock.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from interlock.canonical import canonical_json
from interlock.environments import ROOT, Environment, platform_name
from interlock.errors import StageFailed
from pipeline.driver.index import Index

PACKAGES = ("interlock", "pipeline", "runtime", "eval")

_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")


def _normal(node: Any, into: list[str]) -> None:
    """A syntax tree as words, without what other versions of Python add or leave out (empty fields, kinds of constants)."""
    if isinstance(node, ast.AST):
        into.append(type(node).__name__)
        for field, value in ast.iter_fields(node):
            if value is None or value == [] or field in ("kind", "type_comment", "type_ignores", "ctx"):
                continue
            into.append(field)
            _normal(value, into)
        into.append(")")
    elif isinstance(node, list):
        for item in node:
            _normal(item, into)
    else:
        into.append(repr(node))


def _digest(nodes: list[ast.stmt]) -> str:
    words: list[str] = []
    _normal(nodes, words)
    return hashlib.sha256("\x00".join(words).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]  # type: ignore[attr-defined]
    return tree


def describe_module(file: Path) -> dict[str, Any]:
    """One module of source: its digest, the digest of each definition, what it imports, and the names of files it may read.

    `parts` has top-level definitions by name and everything else as `(module level)`. Raises SyntaxError.
    """
    tree = _without_docstrings(ast.parse(file.read_bytes()))
    imports: list[str] = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")  # relative ones are resolved by who knows the module's name
            imports += [base, *(f"{base}{'.' if node.module else ''}{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME.match(node.value):
            names.add(node.value)
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        definitions.setdefault(_name_of(statement), []).append(statement)
    here = {path.name for path in file.parent.iterdir()} if names else set()
    ours = sorted({name for name in imports if name.split(".")[0] not in ("__future__", "typing")})
    return {
        "digest": _digest(tree.body),
        "parts": {name: _digest(statements)[:16] for name, statements in definitions.items()},
        "imports": ours,
        "data": sorted(name for name in names & here if not (file.parent / name / "__init__.py").exists() and not name.endswith(".py")),
    }


def _name_of(statement: ast.stmt) -> str:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return statement.name
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target] if isinstance(statement, ast.AnnAssign) else []
    if len(targets) == 1 and isinstance(targets[0], ast.Name):
        return targets[0].id
    return "(module level)"


def sha256_of(file: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


class Sources:
    """The source of stages under one root folder, each file read once as long as it stays the same.

    `packages` are the import names that count as source: interlock's own, and those of third-party stages.
    """

    def __init__(self, index: Index, roots: dict[str, Path] | None = None) -> None:
        self._index = index
        self._roots = {**(roots or {}), **dict.fromkeys(PACKAGES, ROOT)}
        self._modules: dict[str, dict[str, Any] | None] = {}
        self._closures: dict[str, dict[str, Any]] = {}

    def file_of(self, module: str) -> Path | None:
        """The source file of a module that counts as source, or None."""
        root = self._roots.get(module.split(".")[0])
        return None if root is None else module_file(module, root)

    def _module(self, name: str) -> dict[str, Any] | None:
        if name not in self._modules:
            file = self.file_of(name)
            self._modules[name] = None if file is None else self._described(file)
        return self._modules[name]

    def _described(self, file: Path) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._index.value(file, "module", describe_module) | {"file": file}
        except (SyntaxError, ValueError) as error:  # ValueError: a NUL byte, or bytes that are not of the declared encoding
            line = getattr(error, "lineno", None)
            raise StageFailed(f"`{file}`{f' line {line}' if line else ''} is no Python: {error}", remedy="correct it, then run this again") from None
        return found

    def closure(self, module: str) -> dict[str, Any]:
        """Digest of each module that `module` imports, directly or through others, anywhere in its code, by module name; itself, parent packages
        and the files of data that they name included. A module's value has its own digest under "" and those of its definitions by name."""
        if module not in self._closures:
            found: dict[str, Any] = {}
            waiting = [module]
            while waiting:
                name = waiting.pop()
                if name in found or (described := self._module(name)) is None:
                    continue
                found[name] = described["parts"] | {"": described["digest"]}
                for data in described["data"]:
                    found |= self._data(described["file"].parent / data, f"{name.rpartition('.')[0].replace('.', '/')}/{data}")
                waiting += [name.rpartition(".")[0], *(_absolute(module, name, described["file"]) for module in described["imports"])]
            self._closures[module] = dict(sorted(found.items()))
        return self._closures[module]

    def _data(self, path: Path, name: str) -> dict[str, str]:
        if path.is_dir():
            return {f"{name}/{child.name}": self._index.value(child, "sha256", sha256_of) for child in sorted(path.iterdir()) if child.is_file()}
        return {name: self._index.value(path, "sha256", sha256_of)}

    def digest(self, module: str) -> str:
        """One digest over the import closure."""
        return hashlib.sha256(canonical_json(self.closure(module))).hexdigest()


def _absolute(module: str, importer: str, file: Path) -> str:
    """The full name of what `importer` imports; empty for a relative import beyond its top."""
    level = len(module) - len(module.lstrip("."))
    if not level:
        return module
    package = importer.split(".") if file.name == "__init__.py" else importer.split(".")[:-1]
    kept = package[: len(package) - level + 1]
    return ".".join([*kept, module[level:]] if module[level:] else kept) if level <= len(package) else ""


def source_digest(module: str) -> str:
    """One digest over the import closure of a module of ours, read anew."""
    return Sources(Index()).digest(module)


@cache
def module_file(module: str, root: Path = ROOT) -> Path | None:
    """The source file of a module under `root`, or None."""
    base = root.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def environment_part(env: Environment, python: str | None) -> dict[str, str]:
    """What of an environment decides a stage's output: the locked files, the interpreter that runs them, the platform."""
    return {
        "name": env.name,
        "requires_python": env.requires_python,
        "lock": env.lock_digest,
        "python": python or "not made yet",
        "platform": platform_name(),
    }


def key_of(preimage: dict[str, Any]) -> str:
    """The key: sha256 over the canonical preimage."""
    return hashlib.sha256(canonical_json(preimage)).hexdigest()
