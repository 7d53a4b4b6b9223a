"""Package contract: what a finished `.mlpackage` promises.

Here: the fields and the rules between them. Not here: reading Core ML files (pipeline/coreml), thresholds, tables (reports).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from interlock.contracts.base import Contract, Frozen, RelativePath, Sha256
from interlock.contracts.checkpoint import Arch, ModelArch, TokenizerInfo

FILE = "package_contract.json"
PACKAGE = "model.mlpackage"
# The function that takes the vector of a latent slot in place of a token.
LATENT = "decode_latent"

Layout = Literal["multifunction", "single"]
Lane = Literal["trace", "export"]
Method = Literal["none", "source", "int8", "int4", "palette4", "palette6", "palette8"]


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


class Thresholds(Frozen):
    """What a package must reach on every output (`psnr_db`) and on logits (KL in nats, mean and greatest over positions)."""

    psnr_db: float
    kl_mean: float
    kl_max: float


class Evidence(Frozen):
    """One output of one function of the saved package, run by `runtime/mil` and compared over `positions` rows.

    `case` says how the function was used where that is not the plain way (`resumed at 512`); `against` names the function of the same package that it
    was compared with, null for the student. `psnr_db` is 20 log10(max|reference| / rmse) over all rows, `worst_db` that of the worst row against the
    row's own peak; both capped at 200, null when a value is not finite. KL is in nats; flips count positions whose greatest entry differs,
    `decided_flips` those of them whose reference margin is more than twice the rms error that the PSNR threshold allows.
    """

    function: str
    tokens: Annotated[int, Field(ge=1)]
    case: str = ""
    against: str | None = None
    output: str
    positions: Annotated[int, Field(ge=1)]
    finite: bool
    psnr_db: float | None
    worst_db: float | None = None
    kl_mean: float | None = None
    kl_max: float | None = None
    flips: int | None = None
    decided_flips: int | None = None


class HeadRoom(Frozen):
    """The greatest size that a value of the package took on the text, and how often it fits below the greatest fp16 number (65504).

    Only values that are declared fp16, are computed, and depend on the text. `max_abs` is null, and `factor` 0, where one was not finite.
    """

    function: str
    operation: str
    value: str
    max_abs: float | None
    factor: float


class Gate(Frozen):
    """The numeric gate that the package passed. `reference` says what it was compared with: the checkpoint, or the export's stored weights.

    `headroom` holds the values with the least, least first.
    """

    executor: Literal["runtime/mil fp16"] = "runtime/mil fp16"
    reference: Literal["checkpoint", "export"]
    reference_digest: Sha256
    thresholds: Thresholds
    repeatable: bool
    evidence: tuple[Evidence, ...]
    headroom: tuple[HeadRoom, ...] = ()


class Drift(Frozen):
    """The same functions from the other lane (`torch.export`), which are not kept, beside the published ones (TorchScript).

    `operations` counts by function what the other has more, or fewer. `evidence` compares the other's outputs with the student's (`against` null) and
    with the published package's (`against` `trace`), under the gate's thresholds.
    """

    operations: dict[str, dict[str, int]]
    evidence: tuple[Evidence, ...]


class StoredWeight(Frozen):
    """One weight of the student as the package stores it. `form` is `fp16`, or the form's name (`int8 blocks of 32`, `Q4_1 blocks of 32`).

    `bits` counts codes, scales, offsets and tables per element; `snr_db` is the energy of the checkpoint's weight over that of the difference, capped
    at 200; `reason` says why a weight kept fp16 although the method would have given it another form.
    """

    shape: tuple[int, ...]
    form: str
    bits: float
    snr_db: float
    reason: str | None = None


class FrontierPoint(Frozen):
    """One choice of forms on the way from the smallest package to the most faithful one. KL in nats per position, on the shipped text, by the eager
    student with the weights as the forms declare them; `kl_measured` is null where only the prediction was needed."""

    weight_bytes: Annotated[int, Field(ge=0)]
    kl_predicted: float
    kl_measured: float | None = None
    forms: dict[str, int]
    chosen: bool = False


class Compression(Frozen):
    """How the weights are stored. `group`: elements of a row that share a scale, or rows that share a table, where the method takes one.

    `made_from` is the digest of the fp16 package that was compressed, null where it was made in the same run. `weights` is by the student's names;
    `missing` names matrices of the student that no constant of the package equals: unused by it, or altered by the converter and left as they are.
    """

    method: Method = "none"
    group: int | None = None
    target_bytes: int | None = None
    target_kl: float | None = None
    made_from: Sha256 | None = None
    weights: dict[str, StoredWeight] = Field(default_factory=dict)
    missing: tuple[str, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()


class PackageContract(Contract):
    """The body. `lane`: what the converter read, TorchScript or torch.export programs; `drift`: how far the other is, where both were converted.

    `tree_digest` covers names and bytes of the package's files. `hardware_verified` stays null unless the gate ran on Core ML itself.
    """

    kind: Literal["package"] = "package"
    artifact: RelativePath
    layout: Layout
    lane: Lane = "trace"
    drift: Drift | None = None
    compression: Compression = Compression()
    arch: Arch
    model_arch: ModelArch
    step: int
    use_halt_head: bool
    enumerated_T: tuple[int, ...]
    cache_length: int | None
    facts: PackageFacts
    gate: Gate
    messages: tuple[ConverterMessage, ...]
    tokenizer: TokenizerInfo | None
    tree_digest: str
    hardware_verified: None = None
