"""What `interlock.open` returns: an artifact directory as a typed value, for scripts and notebooks of either interpreter.

Here: reading a directory's contracts and what follows from them. Not here: writing anything, tensors, the proofs of contents (`interlock verify`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from interlock.contracts import evaluation, export, io, package
from interlock.contracts.base import Contract, InputRef, Kind
from interlock.errors import ContractError


@dataclass(frozen=True, eq=False)
class Artifact:
    """An artifact directory whose contract, and the contracts of its parts, were read and are whole.

    `contract` is the model of its kind (`interlock.contracts.package.PackageContract` and so on); `parts` are the contracts that stand beside it, by
    kind: a deployment's `export` and `package`. The files themselves are read by `verify` alone.
    """

    directory: Path
    contract: Contract
    parts: dict[str, Contract]

    @property
    def kind(self) -> Kind:
        return self.contract.kind

    @property
    def digest(self) -> str:
        """What the artifact is: equal for equal artifacts, whoever made them."""
        return self.contract.digest

    @property
    def inputs(self) -> tuple[InputRef, ...]:
        """What it was made from: contracts by kind and digest, a foreign file by kind `source` and its sha256."""
        return self.contract.inputs

    @cached_property
    def files(self) -> dict[str, Path]:
        """Where each file of the contract stands, by its name in it. Sizes and digests are in `contract.files`."""
        return {entry.path: self.directory / entry.path for entry in self.contract.files}

    @property
    def gate(self) -> export.ShapeValidation | package.Gate | tuple[evaluation.GateResult, ...] | None:
        """What was measured before it was published: of a deployment that of its package, or of its export where it has none.

        None for a checkpoint and a dataset.
        """
        for contract in (self.parts.get("package"), self.parts.get("export"), self.contract):
            if isinstance(contract, package.PackageContract):
                return contract.gate
            if isinstance(contract, export.ExportContract):
                return contract.shape_validation
            if isinstance(contract, evaluation.EvaluationContract):
                return contract.gates
        return None

    def verify(self) -> Artifact:
        """Read every file and prove that the directory holds what its contract says; returns itself. Raises ContractError with all violations.

        `interlock verify DIR` also proves what follows from the contents: headers, signatures, derived fields.
        """
        if wrong := io.file_violations(self.directory, self.contract):
            raise ContractError(*wrong, remedy=f"the directory was changed after it was made; make it again: {io.MADE_BY[self.kind]}")
        return self

    def __repr__(self) -> str:
        size = sum(entry.bytes for entry in self.contract.files)
        parts = f", parts {' and '.join(self.parts)}" if self.parts else ""
        toy = ", toy" if self.contract.toy else ""
        return f"<{self.kind} `{self.directory}`: {len(self.contract.files)} files of {size:,} bytes{parts}{toy}, digest {self.digest[:12]}>"


def open_artifact(directory: str | Path) -> Artifact:
    """See `interlock.open`."""
    folder = Path(directory)
    contract = io.read_any(folder)
    return Artifact(folder, contract, {part.kind: part for part in io.read_parts(folder, contract).values()})
