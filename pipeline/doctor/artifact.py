"""One artifact and what it was made from, as their documents say, whether true or not.

Here: reading what can be read of a broken directory. Not here: proving it (proof.py), judging it (halt.py, latent.py, outputs.py, shapes.py).
Nothing that is read here is trusted: every value may be of any type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interlock.contracts import checkpoint, deployment, io, package
from interlock.contracts.package import Function
from interlock.contracts.strict import MAX_BYTES, parse_json
from interlock.errors import ContractError

# Which contracts stand in a directory of each kind.
_INSIDE = {"deployment": ("deployment", "export", "package"), "package": ("package",), "export": ("export",), "checkpoint": ("checkpoint",)}


@dataclass(frozen=True)
class Document:
    """A contract's values as they stand in `file`."""

    file: Path
    values: dict[str, Any]

    def at(self, *steps: str) -> Any:
        """The value at a JSON path, None where there is none."""
        return reached(self.values, *steps)


def reached(value: Any, *steps: str) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


class Artifact:
    """A directory, and of what it was made from what `find` shows by digest."""

    def __init__(self, directory: Path, find: Callable[[str], Path | None]) -> None:
        self.directory = directory
        self.kind = io.kind_of(directory) if directory.is_dir() else None
        self._find = find

    @cached_property
    def documents(self) -> dict[str, Document]:
        """By kind: those of the directory, then those of its ancestors as far as they are found."""
        found: dict[str, Document] = {}
        for kind in _INSIDE.get(self.kind or "", ()):
            self._read(found, kind, self.directory)
        for kind in ("package", "export"):
            for ref in _refs(found.get(kind)):
                wanted, digest = ref.get("kind"), ref.get("digest")
                folder = self._find(digest) if isinstance(digest, str) and wanted in ("export", "checkpoint") and wanted not in found else None
                if folder:
                    self._read(found, str(wanted), folder)
        return found

    @staticmethod
    def _read(found: dict[str, Document], kind: str, folder: Path) -> None:
        file = io.contract_path(folder, kind)
        try:
            with io.open_regular(file) as opened:
                found[kind] = Document(file, parse_json(opened.read(MAX_BYTES + 1), str(file), remedy=""))
        except ContractError:  # proof.py says why
            return

    @cached_property
    def package_folder(self) -> Path | None:
        """Where the Core ML package of a package or of a deployment is, or should be."""
        if self.kind not in ("package", "deployment") or (self.kind == "deployment" and "package" not in self.documents):
            return None
        return self.directory / package.PACKAGE

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The functions of the saved package, read from its protobuf; empty where that cannot be read."""
        from runtime.mil.facts import read_facts

        try:
            return dict(read_facts(self.package_folder).functions) if self.package_folder else {}
        except ContractError:
            return {}

    @cached_property
    def config(self) -> Document | None:
        """The runtime configuration of a deployment."""
        found: dict[str, Document] = {}
        file = self.directory / deployment.RUNTIME_CONFIG
        if self.kind == "deployment" and file.is_file():
            try:
                with io.open_regular(file) as opened:
                    found["config"] = Document(file, parse_json(opened.read(MAX_BYTES + 1), str(file), remedy=""))
            except ContractError:
                return None
        return found.get("config")

    @property
    def tokenizer(self) -> tuple[Path, Any] | None:
        """The file beside the contracts, and what they say of it; None where the directory has none."""
        told = next((document.at("tokenizer") for document in self.documents.values() if document.at("tokenizer")), None)
        file = self.directory / checkpoint.TOKENIZER
        return (file, told) if file.is_file() else None

    def promised(self) -> Iterator[tuple[str, str, list[str]]]:
        """Each callable that the export's contract promises: file, method, names of its outputs."""
        document = self.documents.get("export")
        signatures = document.at("signatures") if document else None
        for name, signature in signatures.items() if isinstance(signatures, dict) else ():
            methods = reached(signature, "methods")
            for method, told in methods.items() if isinstance(methods, dict) else ():
                outputs = reached(told, "outputs")
                yield name, method, [str(reached(output, "name")) for output in outputs] if isinstance(outputs, list) else []


def _refs(document: Document | None) -> list[dict[str, Any]]:
    refs = document.at("inputs") if document else None
    return [ref for ref in refs if isinstance(ref, dict)] if isinstance(refs, list) else []
