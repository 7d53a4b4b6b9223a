"""What a report shows, as one document: the terminal, the page and the JSON are three forms of it and cannot disagree.

Here: the document's records and how they follow from contracts. Not here: how they look (page_text.py, page.py), measuring anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from interlock.contracts.base import Contract, EnvironmentRecord, FileEntry, Frozen, GatePassed, InputRef
from interlock.contracts.checkpoint import CheckpointContract, Source
from interlock.contracts.deployment import DeploymentContract
from interlock.contracts.evaluation import EvaluationContract
from interlock.contracts.evaluation import GateResult as Claim
from interlock.contracts.export import ExportContract, ShapeValidation
from interlock.contracts.package import Compression, ConverterMessage, Drift, Gate, PackageContract
from interlock.errors import Violation
from interlock.voice import human, path_text
from pipeline.gates.rejected import Rejected, Rejection
from pipeline.gates.thresholds import EXPORTED_PSNR_DB
from pipeline.lineage import Ancestor, Lineage, Place
from pipeline.reports.facts import facts_of
from pipeline.reports.training import Trained, trainings_of


class Fact(Frozen):
    name: str
    value: str


class GateResult(Frozen):
    """How a gate ended, by its worst figures. least_db is over every output, greatest_kl over logits; each beside what was needed."""

    passed: bool
    comparisons: int
    least_db: float | None
    needed_db: float
    greatest_kl: float | None = None
    allowed_kl: float | None = None


class Artifact(Frozen):
    """One artifact of the lineage, or its source. place: where its contract was found. Of what is not at hand only kind and digest are known."""

    kind: str
    digest: str
    place: Place
    path: str | None = None
    problem: str | None = None
    stage: str | None = None
    schema_version: int | None = None
    project_version: str | None = None
    source_digest: str | None = None
    environment: EnvironmentRecord | None = None
    toy: bool = False
    files: tuple[FileEntry, ...] = ()
    bytes: int = 0
    inputs: tuple[InputRef, ...] = ()
    facts: tuple[Fact, ...] = ()
    gate: GateResult | None = None
    gates_passed: tuple[GatePassed, ...] = ()
    source: Source | None = None


class Wrong(Frozen):
    """A violation: a place where the directory is not what its contract says."""

    file: str
    where: str
    expected: str
    found: str


class Verdict(Frozen):
    """What the directory is, and what is known of it. proven: by this report, now; recorded: by the gates, when it was built."""

    state: Literal["verified", "toy", "broken"]
    proven: tuple[str, ...]
    recorded: tuple[str, ...]
    not_checked: tuple[str, ...]
    wrong: tuple[Wrong, ...]


class Shapes(Frozen):
    digest: str
    needed_db: float
    validation: ShapeValidation


class Package(Frozen):
    """The figures of one package of the lineage."""

    digest: str
    gate: Gate
    compression: Compression
    drift: Drift | None
    messages: tuple[ConverterMessage, ...]


class Evaluation(Frozen):
    """What was asked of a model, and which claims about an interval hold."""

    digest: str
    suite: str
    subject: str
    items: int
    verdict: str
    gates: tuple[Claim, ...]


class Run(Frozen):
    """What making an artifact took, where the build kept a record of it."""

    stage: str
    digest: str
    wall_s: float
    peak_rss_bytes: int | None


class Candidate(Frozen):
    """A package that its gate refused. rejection is null where its evidence cannot be read."""

    path: str
    problem: str | None
    rejection: Rejection | None


class Document(Frozen):
    """artifacts: the directory's own first, each before what it was made from."""

    directory: str
    verdict: Verdict
    artifacts: tuple[Artifact, ...]
    trainings: tuple[Trained, ...]
    shapes: tuple[Shapes, ...]
    packages: tuple[Package, ...]
    evaluations: tuple[Evaluation, ...]
    runs: tuple[Run, ...]
    rejected: tuple[Candidate, ...]

    @property
    def root(self) -> Artifact:
        return self.artifacts[0]


@dataclass(frozen=True)
class Proof:
    """The outcome of verifying the directory."""

    violations: Sequence[Violation]


def document_of(directory: Path, lineage: Lineage, proof: Proof, runs: Mapping[str, tuple[float, int | None]]) -> Document:
    """runs: seconds and bytes of memory by the digest of what was made."""
    artifacts = artifacts_of(lineage)
    contracts = [item.contract for item in lineage.artifacts.values() if item.contract]
    made = [(item, runs[item.digest]) for item in artifacts if item.digest in runs]
    return Document(
        directory=path_text(directory),
        verdict=_verdict(lineage, artifacts, proof),
        artifacts=artifacts,
        trainings=trainings_of((item.contract, item.path) for item in lineage.artifacts.values() if item.contract),
        shapes=tuple(_shapes(contract) for contract in contracts if isinstance(contract, ExportContract)),
        packages=tuple(_package(contract) for contract in contracts if isinstance(contract, PackageContract)),
        evaluations=tuple(_evaluation(contract) for contract in contracts if isinstance(contract, EvaluationContract)),
        runs=tuple(Run(stage=item.stage or item.kind, digest=item.digest, wall_s=wall, peak_rss_bytes=peak) for item, (wall, peak) in made),
        rejected=candidates_of(lineage.rejected),
    )


def artifacts_of(lineage: Lineage) -> tuple[Artifact, ...]:
    return tuple(_artifact(ancestor, lineage) for ancestor in lineage.artifacts.values())


def candidates_of(rejected: Iterable[Rejected]) -> tuple[Candidate, ...]:
    return tuple(Candidate(path=_near(item.path), problem=item.problem, rejection=item.rejection) for item in rejected)


def _artifact(ancestor: Ancestor, lineage: Lineage) -> Artifact:
    path = _near(ancestor.path) if ancestor.path else None
    known = Artifact(kind=ancestor.kind, digest=ancestor.digest, place=ancestor.place, path=path, problem=ancestor.problem)
    contract = ancestor.contract
    if contract is None:
        return known if ancestor.kind != "source" else known.model_copy(update={"source": _source(ancestor.digest, lineage)})
    made = contract.created_by
    return known.model_copy(
        update={
            "stage": made.stage,
            "schema_version": contract.schema_version,
            "project_version": made.project_version,
            "source_digest": made.source_digest,
            "environment": made.environment,
            "toy": contract.toy,
            "files": contract.files,
            "bytes": sum(entry.bytes for entry in contract.files),
            "inputs": contract.inputs,
            "facts": tuple(Fact(name=name, value=value) for name, value in facts_of(contract)),
            "gate": gate_result(contract),
            "gates_passed": contract.gates_passed,
        }
    )


def _near(path: Path) -> str:
    """As seen from the current folder where it lies below it: two clones of a project give one page."""
    here = Path.cwd()
    return path_text(path.relative_to(here) if path.is_relative_to(here) else path)


def counted(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _source(digest: str, lineage: Lineage) -> Source | None:
    """What the checkpoint that was made from it says of a source."""
    for item in lineage.artifacts.values():
        if isinstance(item.contract, CheckpointContract) and item.contract.source.sha256 == digest:
            return item.contract.source
    return None


def gate_result(contract: Contract) -> GateResult | None:
    """The gate that an artifact of this kind passes, None where there is none."""
    if isinstance(contract, ExportContract):
        passed = [result for result in contract.shape_validation.results.values() if result.status == "ok"]
        figures = [db for result in passed for db in (result.psnr_db, result.decode_psnr_db) if db is not None]
        greatest = max((result.kl_max for result in passed if result.kl_max is not None), default=None)
        return GateResult(
            passed=contract.shape_validation.primary_ok,
            comparisons=len(figures),
            least_db=min(figures, default=None),
            needed_db=EXPORTED_PSNR_DB,
            greatest_kl=greatest,
        )
    return _package_gate(contract.gate) if isinstance(contract, PackageContract) else None


def _package_gate(gate: Gate) -> GateResult:
    """Of a published package: it passed."""
    kls = [item.kl_max for item in gate.evidence if item.output == "logits" and item.kl_max is not None]
    figures = [item.psnr_db for item in gate.evidence if item.psnr_db is not None]
    return GateResult(
        passed=True,
        comparisons=len(gate.evidence),
        least_db=min(figures, default=None),
        needed_db=gate.thresholds.psnr_db,
        greatest_kl=max(kls, default=None),
        allowed_kl=gate.thresholds.kl_max,
    )


def gate_text(result: GateResult) -> str:
    """A gate's result in one line."""
    parts = [f"{result.comparisons} comparisons"]
    if result.least_db is not None:
        parts.append(f"least {result.least_db:.1f} dB of {result.needed_db:g}")
    if result.greatest_kl is not None:
        parts.append(f"greatest KL {result.greatest_kl:.1e}" + (f" of {result.allowed_kl:g}" if result.allowed_kl is not None else ""))
    return f"{'passed' if result.passed else 'failed'}: {', '.join(parts)}"


def _shapes(contract: ExportContract) -> Shapes:
    return Shapes(digest=contract.digest, needed_db=EXPORTED_PSNR_DB, validation=contract.shape_validation)


def _package(contract: PackageContract) -> Package:
    return Package(digest=contract.digest, gate=contract.gate, compression=contract.compression, drift=contract.drift, messages=contract.messages)


def _evaluation(contract: EvaluationContract) -> Evaluation:
    return Evaluation(
        digest=contract.digest,
        suite=contract.suite,
        subject=f"{contract.subject.kind} {contract.subject.name}",
        items=contract.items,
        verdict=contract.verdict,
        gates=contract.gates,
    )


def _verdict(lineage: Lineage, artifacts: tuple[Artifact, ...], proof: Proof) -> Verdict:
    root = lineage.root.contract
    assert root is not None, "a lineage begins with a contract"
    wrong = tuple(Wrong(file=item.file, where=item.where, expected=item.expected, found=item.found) for item in proof.violations)
    return Verdict(
        state="broken" if wrong else "toy" if root.toy else "verified",
        proven=() if wrong else tuple(_proven(root, artifacts)),
        recorded=tuple(_recorded(lineage)),
        not_checked=tuple(_not_checked(root, lineage, artifacts)),
        wrong=wrong,
    )


def _proven(root: Contract, artifacts: tuple[Artifact, ...]) -> Iterator[str]:
    size = human(sum(entry.bytes for entry in root.files), "B")
    yield f"{counted(len(root.files), 'file')}, {size}: each has the size and sha256 that the contract names, and no other file is there"
    if isinstance(root, DeploymentContract):
        yield "every field of the manifest follows from the artifacts, derived again"
    sources = [item for item in artifacts if item.kind == "source"]
    if sources and all(item.place != "absent" for item in artifacts if item.kind != "source"):
        yield f"the chain of contracts is whole, down to the source's sha256 {sources[0].digest}"


def _recorded(lineage: Lineage) -> Iterator[str]:
    for item in lineage.artifacts.values():
        contract = item.contract
        if isinstance(contract, ExportContract):
            lengths = ", ".join(map(str, contract.enumerated_T))
            where = "the saved TorchScript files were run against the eager student at lengths"
            yield f"export {contract.digest[:12]}: {where} {lengths}; {_figures(contract)}"
        if isinstance(contract, PackageContract):
            gate = contract.gate
            again = "a repeated run gave the same bits" if gate.repeatable else "a repeated run gave other bits"
            how = "fp16" if contract.compression.method == "none" else contract.compression.method
            ran = f"the saved package was run by {gate.executor} against the {gate.reference}"
            yield f"package {contract.digest[:12]} ({how}): {ran}; {_figures(contract)}; {again}"
        if isinstance(contract, EvaluationContract):
            yield f"evaluation {contract.digest[:12]}: {contract.suite}, {contract.items} items, {contract.verdict}"
        if contract is not None:
            yield from (
                f"{contract.kind} {contract.digest[:12]}: gate {passed.gate} of {passed.distribution} passed" for passed in contract.gates_passed
            )


def _figures(contract: Contract) -> str:
    result = gate_result(contract)
    assert result is not None
    return gate_text(result)


def _not_checked(root: Contract, lineage: Lineage, artifacts: tuple[Artifact, ...]) -> Iterator[str]:
    contracts = [item.contract for item in lineage.artifacts.values() if item.contract]
    if root.toy:
        yield "toy: made outside the rule on environments, or from what was; not for production"
    packages = [contract for contract in contracts if isinstance(contract, PackageContract)]
    if packages:
        yield "Core ML itself: nothing has run on Apple's runtime, hardware_verified is null"
    elif isinstance(root, DeploymentContract):
        yield "Core ML: this deployment has no package"
    for contract in contracts:
        if isinstance(contract, ExportContract) and not contract.shape_validation.all_ok:
            refused = [length for length, result in contract.shape_validation.results.items() if result.status == "rejected"]
            yield f"lengths {', '.join(sorted(refused, key=int))}: rejected, and not declared"
    unknown = sum(message.harmless is None for contract in packages for message in contract.messages)
    if unknown:
        yield f"{unknown} kinds of converter message: not known to be harmless"
    if any(isinstance(contract, (ExportContract, PackageContract, EvaluationContract)) for contract in contracts):
        yield "the gates: this report ran no model, its figures are those of the build"
    if absent := [item for item in artifacts if item.place == "absent" and item.kind != "source"]:
        yield "the chain beyond " + ", ".join(f"{item.kind} {item.digest[:12]}" for item in absent) + ": not at hand, known by digest only"
    if not any(isinstance(contract, EvaluationContract) for contract in contracts):
        yield "tasks: no evaluation is part of this lineage"
    yield "who made it: nothing is signed"
