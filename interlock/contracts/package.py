"""Package contract: what a finished `.mlpackage` promises.

Here: the fields and the rules between them. Not here: reading Core ML files (pipeline/coreml), thresholds, tables (reports).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from interlock.contracts.base import Contract, Frozen, RelativePath
from interlock.contracts.checkpoint import Arch, ModelArch, TokenizerInfo

FILE = "package_contract.json"
PACKAGE = "model.mlpackage"

Layout = Literal["multifunction", "single"]


class Feature(Frozen):
    """An input, output or state as the saved protobuf describes it. `enumerated` lists every allowed shape where there is more than one."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    enumerated: tuple[tuple[int, ...], ...] = ()


class Function(Frozen):
    """One function of the package. `operations` counts its operations by type."""

    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[Feature, ...] = ()
    opset: str
    operations: dict[str, int]


class PackageFacts(Frozen):
    """Read back from the saved protobuf, never remembered."""

    functions: dict[str, Function]
    default_function: str
    specification_version: int
    weight_bytes: Annotated[int, Field(ge=0)]
    metadata: dict[str, str]

    def has_output(self, name: str) -> bool:
        """Whether every function returns `name`."""
        return all(any(output.name == name for output in function.outputs) for function in self.functions.values())


class ConverterMessage(Frozen):
    """A warning or log line of the converter. `harmless` says why it may be ignored; None means it is not known."""

    text: str
    count: int
    harmless: str | None


class PackageContract(Contract):
    """The body. `tree_digest` covers names and bytes of the package's files. `hardware_verified` stays null unless the gate ran on Core ML itself."""

    kind: Literal["package"] = "package"
    artifact: RelativePath
    layout: Layout
    compression: Literal["none"] = "none"
    arch: Arch
    model_arch: ModelArch
    step: int
    use_halt_head: bool
    enumerated_T: tuple[int, ...]
    cache_length: int | None
    facts: PackageFacts
    messages: tuple[ConverterMessage, ...]
    tokenizer: TokenizerInfo | None
    tree_digest: str
    hardware_verified: None = None
