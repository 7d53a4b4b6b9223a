"""Export contract: what the TorchScript files of a student promise, and the evidence that the saved files keep it.

Here: the fields and the rules between them. Not here: tracing (pipeline/export), thresholds (pipeline/stages/export).
The directory holds `model_prefill_fp16.pt`, `model_decode_fp16.pt`, a signature beside each, and the checkpoint's tokenizer files.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from interlock.contracts.base import Contract, Frozen, RelativePath
from interlock.contracts.checkpoint import Arch, LatentTraining, ModelArch, TokenizerInfo, Training, check_training, check_version

FILE = "model_contract.json"
PREFILL, DECODE = "model_prefill_fp16.pt", "model_decode_fp16.pt"
# The method of the decode file that takes the vector of a latent slot.
LATENT = "latent"

Dtype = Literal["int32", "float16", "float32"]


def signature_file(artifact: str) -> str:
    """The guide's `<stem>_contract.json` beside an exported file."""
    return f"{artifact.removesuffix('.pt')}_contract.json"


class TensorSpec(Frozen):
    """A named input or output. A string in `shape` is a dimension that may vary: `T` tokens, `C` cache slots."""

    name: str
    dtype: Dtype
    shape: tuple[Annotated[int, Field(ge=0)] | Literal["T", "C"], ...]


class Method(Frozen):
    """One callable of a TorchScript file: `forward`, `prefill` of the prefill file, or `latent` of the decode file of a student that was trained
    with latent slots. Order of inputs and outputs is positional."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Signature(Frozen):
    """What one exported file takes and returns, as the guide's per-file contract. Dtypes are those after loading; weights are stored in fp16."""

    artifact: RelativePath
    mode: Literal["prefill", "decode"]
    methods: dict[str, Method]
    weights_dtype: Literal["float16"] = "float16"
    enumerated_T: tuple[Annotated[int, Field(ge=1)], ...]
    use_halt_head: bool
    n_layers: int
    n_kv_heads: int
    d_head: int


class ShapeResult(Frozen):
    """One enumerated length, run through the saved files and compared with the eager student in fp32.

    `psnr_db` is 20 log10(max|reference| / rmse) over all logits (capped at 200), `kl_*` nats per position, flips are counted over positions.
    `decode_steps` teacher-forced steps after a prefill of this length were compared as well: `decode_psnr_db`. Of a student that was trained with
    latent slots also `latent_steps` of a chain that feeds each hidden state back: with the student's own states (`latent_psnr_db`), and with those
    that the file gives (`latent_chain_psnr_db`); absent for others.
    """

    status: Literal["ok", "rejected"]
    error: str | None = None
    psnr_db: float | None = None
    kl_mean: float | None = None
    kl_max: float | None = None
    argmax_flips: int | None = None
    halt_flips: int | None = None
    decode_steps: int | None = None
    decode_psnr_db: float | None = None
    latent_steps: int | None = None
    latent_psnr_db: float | None = None
    latent_chain_psnr_db: float | None = None

    @model_serializer(mode="wrap")
    def _without_what_was_not_run(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        return {name: value for name, value in document.items() if value is not None or not name.startswith("latent_")}


class ShapeValidation(Frozen):
    """Every enumerated length by its decimal name, and the verdicts that later stages read."""

    primary_shape: int
    primary_ok: bool
    all_ok: bool
    results: dict[str, ShapeResult]

    @model_validator(mode="after")
    def _verdicts_follow(self) -> ShapeValidation:
        ok = {name: result.status == "ok" for name, result in self.results.items()}
        if str(self.primary_shape) not in ok:
            raise ValueError(f"primary shape {self.primary_shape} is not among the results {sorted(ok)}")
        if self.primary_ok != ok[str(self.primary_shape)] or self.all_ok != all(ok.values()):
            raise ValueError("primary_ok and all_ok must follow from the results")
        return self


class ExportContract(Contract):
    """The body. `enumerated_T` holds the lengths that passed; rejected ones stay in `shape_validation` with their reason."""

    kind: Literal["export"] = "export"
    arch: Arch
    model_arch: ModelArch
    step: int
    use_halt_head: bool
    mode: Literal["prefill", "decode", "both"]
    lane: Literal["trace"] = "trace"
    enumerated_T: tuple[int, ...]
    signatures: dict[str, Signature]
    shape_validation: ShapeValidation
    tokenizer: TokenizerInfo | None
    training: Training | None = None
    """The checkpoint's, carried along: what a runtime may ask of latent spans and of the halt head."""

    SINCE_2: ClassVar[tuple[str, ...]] = ("training",)

    @property
    def latent(self) -> LatentTraining | None:
        """What of latent spans the files can run; None where the student was not trained for them."""
        return self.training.latent if self.training else None

    @model_validator(mode="after")
    def _signatures_agree(self) -> ExportContract:
        wanted = {"prefill": {PREFILL}, "decode": {DECODE}, "both": {PREFILL, DECODE}}[self.mode]
        if set(self.signatures) != wanted:
            raise ValueError(f"mode {self.mode} has signatures {sorted(wanted)}, found {sorted(self.signatures)}")
        if self.use_halt_head != self.model_arch.use_halt_head:
            raise ValueError("use_halt_head must equal model_arch.use_halt_head")
        check_training(self.training, self.model_arch)
        check_version(self.schema_version, self.arch)
        if DECODE in self.signatures and (LATENT in self.signatures[DECODE].methods) != (self.latent is not None):
            raise ValueError(f"{DECODE} has method `{LATENT}` exactly where training.latent says that the student was trained for it")
        for name, signature in self.signatures.items():
            has = any(output.name == "halt_logits" for method in signature.methods.values() for output in method.outputs)
            if has != self.use_halt_head:
                raise ValueError(f"{name}: halt_logits is {'present' if has else 'absent'}, use_halt_head is {self.use_halt_head}")
        return self
