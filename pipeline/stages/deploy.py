"""Stage `deploy`: exported files and a package in, one deployed directory with a manifest out; and the chain that makes the parts first.

Here: the directory's content, the manifest's derivation, the verb's two forms. Not here: running a chain (driver/chain.py), proving a directory (pipeline/verify.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from interlock.command import Session, emit
from interlock.contracts import checkpoint, deployment, export, io, package
from interlock.contracts.base import InputRef
from interlock.errors import ContractError, UsageError, Violation
from interlock.fs import Workspace, require_space
from interlock.voice import Voice
from pipeline.driver import stage
from runtime.config import CawsTier, RuntimeConfig


class Params(stage.Params):
    """`export` and `package` are artifact directories. `latent_mode` and `halt_head` are claims: the artifacts must bear them out."""

    export: Path
    package: Path | None
    latent_mode: bool
    halt_head: bool
    caws_tier: CawsTier


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    exported = stage.read_input(params.export, "export", voice)
    assert isinstance(exported, export.ExportContract)
    packaged = None
    if params.package:
        packaged = stage.read_input(params.package, "package", voice)
        assert isinstance(packaged, package.PackageContract)
    _check(params, exported, packaged)
    contracts = [exported, *([packaged] if packaged else [])]
    require_space(params.out.parent, sum(entry.bytes for contract in contracts for entry in contract.files) + (16 << 20))
    with voice.task("copy artifacts"):
        for folder in filter(None, (params.export, params.package)):
            for child in sorted(folder.iterdir()):
                work.copy(child, child.name)
    config = RuntimeConfig(latent_mode_enabled=params.latent_mode, halt_head_enabled=exported.use_halt_head, caws_tier=params.caws_tier)
    work.write(deployment.RUNTIME_CONFIG, config.to_json())
    inputs = tuple(InputRef(kind=contract.kind, digest=contract.digest) for contract in contracts)
    return stage.Outcome(derive(exported, packaged), inputs, toy=any(contract.toy for contract in contracts))


STAGE = stage.Stage("deploy", "train", "deployment", Params, work, __name__)


def derive(exported: export.ExportContract, packaged: package.PackageContract | None) -> dict[str, Any]:
    """Every field of the manifest's body from the contracts of the artifacts; `interlock verify` derives them again and compares."""
    assert exported.tokenizer is not None
    halts = exported.use_halt_head and (packaged is None or packaged.facts.has_output("halt_logits"))
    return {
        "model_info": deployment.ModelInfo(
            checkpoint_step=exported.step,
            use_halt_head=exported.use_halt_head,
            use_self_evaluation=exported.model_arch.use_self_evaluation,
            arch=exported.arch,
        ),
        "artifacts": deployment.Artifacts(
            pytorch_export=export.PREFILL,
            pytorch_decode=export.DECODE if export.DECODE in exported.signatures else None,
            coreml_export=packaged.artifact if packaged else None,
            runtime_config=deployment.RUNTIME_CONFIG,
        ),
        "capabilities": deployment.Capabilities(latent_reasoning=False, halt_head=halts, code_mode=export.DECODE in exported.signatures),
        "tokenizer": exported.tokenizer,
        "enumerated_T": exported.enumerated_T,
        "export_digest": exported.digest,
        "package_digest": packaged.digest if packaged else None,
    }


def _check(params: Params, exported: export.ExportContract, packaged: package.PackageContract | None) -> None:
    wrong: list[Violation] = []
    here = str(params.export / export.FILE)
    if exported.mode != "both":
        wrong.append(Violation(here, "/mode", "`both` (a deployment prefills and decodes)", f"`{exported.mode}`"))
    if exported.tokenizer is None:
        wrong.append(Violation(here, "/tokenizer", "a tokenizer (`interlock import … --tokenizer DIR`)", "none"))
    if params.halt_head and not exported.use_halt_head:
        wrong.append(Violation(here, "/use_halt_head", "true, because --halt-head was given", "false: this checkpoint has no halt head"))
    if params.latent_mode:
        wrong.append(Violation(here, "/signatures", "a latent decode method, because --latent-mode was given", "none: this checkpoint has no latent training"))
    if packaged:
        made_from = next((ref.digest for ref in packaged.inputs if ref.kind == "export"), None)
        if made_from != exported.digest:
            there = str(params.package / package.FILE) if params.package else package.FILE
            wrong.append(Violation(there, "/inputs", f"made from this export ({exported.digest})", f"made from {made_from}"))
    if (exported.toy or (packaged is not None and packaged.toy)) and not params.toy:
        wrong.append(Violation(here, "/toy", "false, or an explicit --toy", "true: a toy artifact"))
    if wrong:
        raise ContractError(*wrong, remedy="leave out the flag, or make the part that is missing; capabilities are what the artifacts have")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", help="checkpoint directory, .pt file or import source (package:NAME, gguf:FILE, hf:DIR): runs the stages that are missing")
    parser.add_argument("--out-dir", type=Path, required=True, help="deployed directory to make; parts are made beside it")
    parser.add_argument("--export-pytorch", action="store_true", help="with --checkpoint: export TorchScript prefill and decode")
    parser.add_argument("--export-coreml", action="store_true", help="with --checkpoint: convert to a Core ML package as well")
    parser.add_argument("--export", type=Path, help="a finished export directory, instead of --checkpoint")
    parser.add_argument("--package", type=Path, help="a finished package directory made from that export")
    parser.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json, for a checkpoint that brings none (.pt)")
    parser.add_argument("--latent-mode", action="store_true", help="claim latent reasoning: refused unless the artifacts have it")
    parser.add_argument("--halt-head", action="store_true", help="claim a halt head: refused unless the artifacts have it")
    parser.add_argument("--caws-tier", choices=[tier.value for tier in CawsTier], default="tier_2", help="CAWS budget (default %(default)s)")
    parser.add_argument("--force", action="store_true", help="with --checkpoint: make every part again")
    parser.add_argument("--toy", action="store_true", help="allow toy artifacts and any interpreter; the manifest says so")


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.stages.import_ import finish

    if args.checkpoint and (args.export or args.package):
        raise UsageError("--checkpoint cannot be combined with --export or --package", remedy="name the checkpoint, or the finished parts")
    if args.checkpoint:
        return _chain(args, session)
    if not args.export:
        raise UsageError("nothing to deploy: neither --checkpoint nor --export was given", remedy="see `interlock deploy --help`")
    params = Params(
        out=args.out_dir, toy=args.toy, export=args.export, package=args.package, latent_mode=args.latent_mode, halt_head=args.halt_head,
        caws_tier=CawsTier(args.caws_tier),
    )  # fmt: skip
    return finish(stage.run(STAGE, params, session.voice, session.argv), as_json=args.json)


def _chain(args: argparse.Namespace, session: Session) -> int:
    from pipeline.driver import chain

    if not args.export_pytorch:
        raise UsageError("a deployment needs its TorchScript files: --export-pytorch is missing", remedy="add --export-pytorch, and --export-coreml for a package")
    reports = chain.run(plan(args), session.voice, force=args.force)
    if args.json:
        emit({"stages": [report.as_dict() for report in reports]})
        return 0
    from pipeline.reports import text

    text.show(reports)
    sys_hint = f'next: interlock infer {args.out_dir} --prompt "What is the capital of France?"'
    session.voice.step(sys_hint)
    return 0


def plan(args: argparse.Namespace) -> list[Any]:
    """The stages that `--checkpoint` asks for, in order; pure but for looking at what kind of thing the checkpoint is."""
    from pipeline.driver import chain
    from pipeline.stages import source_digest

    base, out = args.out_dir.parent, args.out_dir
    exported, packaged = base / "exported", base / "package"
    toy = ("--toy",) if args.toy else ()
    steps: list[chain.Step] = []
    source = Path(args.checkpoint)
    if (source / checkpoint.FILE).is_file():
        imported = source
    else:
        imported = base / "checkpoint"
        tokenizer = ("--tokenizer", str(args.tokenizer)) if args.tokenizer else ()
        steps.append(
            chain.Step(
                "import", "pipeline.stages.import_", "train", "checkpoint", (args.checkpoint, "--out", str(imported), *tokenizer), imported,
                lambda: source_digest.of(args.checkpoint, args.tokenizer),
            )
        )  # fmt: skip
    steps.append(
        chain.Step(
            "export", "pipeline.stages.export", "export", "export", ("--checkpoint", str(imported), "--out", str(exported), *toy), exported,
            lambda: {"checkpoint": chain.contract_digest(imported, "checkpoint")},
        )
    )  # fmt: skip
    if args.export_coreml:
        steps.append(
            chain.Step(
                "convert", "pipeline.stages.convert", "export", "package", ("--in", str(exported), "--out", str(packaged), *toy), packaged,
                lambda: {"export": chain.contract_digest(exported, "export")},
            )
        )  # fmt: skip

    def parts() -> dict[str, str]:
        found = {"export": chain.contract_digest(exported, "export")}
        return found | ({"package": chain.contract_digest(packaged, "package")} if args.export_coreml else {})

    claims = [flag for flag, given in (("--latent-mode", args.latent_mode), ("--halt-head", args.halt_head)) if given]
    part = ("--package", str(packaged)) if args.export_coreml else ()
    argv = ("--export", str(exported), *part, "--out-dir", str(out), "--caws-tier", args.caws_tier, *claims, *toy)
    steps.append(chain.Step("deploy", __name__, "train", "deployment", argv, out, parts))
    return steps


def read_deployment(directory: Path) -> tuple[deployment.DeploymentContract, export.ExportContract, package.PackageContract | None]:
    """The three contracts of a deployed directory, each valid by itself. Raises ContractError."""
    manifest = io.read_contract(directory / deployment.FILE, deployment.DeploymentContract)
    exported = io.read_contract(directory / export.FILE, export.ExportContract)
    packaged = io.read_contract(directory / package.FILE, package.PackageContract) if manifest.package_digest else None
    return manifest, exported, packaged
