"""What converting costs: plain coremltools beside ours, processor time and peak memory, each in a process of its own.

    python -m benchmarks.conversion [--real EXPORT_DIR] [--lengths 512,1024] [--json FILE]

Here: the measurement and its table. Without `--real`, a random student of 10 M parameters. Run it in the export environment.
`plain` is `ct.convert` of the same functions from the same files, to saved packages of one function each; its `merge` is coremltools'
`save_multifunction`, which makes one package of them. Ratios are to plain `convert` alone; `all but load` is the sum of the steps. Then the parts
of our steps. Processor time, because it moves little with what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from interlock.contracts.checkpoint import Arch, ModelArch
from interlock.contracts.export import DECODE, FILE, PREFILL, ExportContract, Signature

STEPS = ("load", "convert", "merge", "read back", "gate")
LENGTHS, MARGIN = (64, 128, 256, 512), 256
TOY = Arch(
    d_model=256, n_layers=8, n_heads=8, n_kv_heads=2, d_head=32, d_ff=768, vocab_size=8192, rope_theta=1e4, norm_eps=1e-5, tie_embeddings=True,
    max_position=1024,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="processor time and memory of conversion, plain and ours")
    parser.add_argument("--real", type=Path, metavar="EXPORT_DIR", help="an export directory (default: a random student of 10 M parameters)")
    parser.add_argument("--lengths", help="prefill lengths, by commas (default: those of the export)")
    parser.add_argument("--json", type=Path, help="write the figures to a file as well")
    parser.add_argument("--child", choices=["plain", "ours"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps((_plain if args.child == "plain" else _ours)(args.real, _lengths(args.lengths, args.real))))
        return
    with contextlib.ExitStack() as stack:
        export = args.real or _toy(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        lengths = _lengths(args.lengths, export)
        figures = {name: _in_child(name, export, lengths) for name in ("plain", "ours")}
    _table(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def _in_child(name: str, export: Path, lengths: tuple[int, ...]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.conversion", "--child", name, "--real", str(export), "--lengths", ",".join(map(str, lengths))]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]))


def _lengths(given: str | None, export: Path) -> tuple[int, ...]:
    return tuple(int(length) for length in given.split(",")) if given else _contract(export).enumerated_T


def _contract(export: Path) -> ExportContract:
    from interlock.contracts.io import read_contract

    return read_contract(export / FILE, ExportContract)


class Clock:
    """Processor seconds by step, and the greatest memory after each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}
        self.parts: dict[str, float] = {}
        self._step = ""
        self._part: str | None = None
        self._since = 0.0

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._step, start = name, time.process_time()
        yield
        self._until_now(None)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        self.peak_mb[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

    def advance(self, amount: float = 1) -> None:
        """As a voice's task, which it stands for."""

    def note(self, text: str) -> None:
        """What a step turns to, as it tells a voice: the first word is the function, or what is done to it."""
        self._until_now(f"{self._step}: {text.replace(',', ' ').replace(':', ' ').split()[0]}")

    def _until_now(self, part: str | None) -> None:
        now = time.process_time()
        if self._part is not None:
            self.parts[self._part] = self.parts.get(self._part, 0.0) + now - self._since
        self._part, self._since = part, now

    def figures(self, **more: Any) -> dict[str, Any]:
        return {"seconds": self.seconds, "peak_mb": self.peak_mb, "parts": self.parts, **more}


def _plain(export: Path, lengths: tuple[int, ...]) -> dict[str, Any]:
    """`ct.convert` as it comes, and `save_multifunction`."""
    import torch

    from pipeline.coreml import functions
    from pipeline.coreml.messages import collected

    torch.set_num_threads(1)
    clock, contract = Clock(), _contract(export)
    plans, slots = functions.plan_functions(lengths), functions.cache_length(lengths, MARGIN, contract.arch.max_position)
    with clock.step("load"):
        ct, _ = functions.load_converter()
    functions.lean_conversion = lambda note: contextlib.nullcontext()
    functions.normalise = lambda package: None
    with tempfile.TemporaryDirectory() as folder, collected(), contextlib.redirect_stderr(io.StringIO()):
        with clock.step("convert"):
            packages, _ = functions.convert_stateful(_files(export), contract.signatures, plans, slots, Path(folder), _quiet)
        with clock.step("merge"):
            descriptor = ct.utils.MultiFunctionDescriptor()
            for name, package in packages.items():
                descriptor.add_function(str(package), "main", name)
            descriptor.default_function_name = "decode"
            ct.utils.save_multifunction(descriptor, str(Path(folder) / "merged.mlpackage"))
    return clock.figures()


def _ours(export: Path, lengths: tuple[int, ...]) -> dict[str, Any]:
    """The stage's own steps, without its process around them."""
    import torch

    from pipeline.coreml import functions, merge
    from pipeline.coreml.facts import read_package
    from pipeline.coreml.lengths import convert_plans
    from pipeline.coreml.normal import tree_digest
    from pipeline.export.shapes import prompt_ids
    from pipeline.gates.package import failures, measure
    from pipeline.gates.verdict import from_export

    torch.set_num_threads(1)
    clock, contract = Clock(), _contract(export)
    plans, slots = functions.plan_functions(lengths), functions.cache_length(lengths, MARGIN, contract.arch.max_position)
    with clock.step("load"):
        functions.load_converter()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.mlpackage"
        with clock.step("convert"):
            convert = partial(functions.convert_stateful, _files(export), contract.signatures, slots=slots, into=Path(folder), note=clock.note)
            packages, _ = convert_plans(plans, convert, Path(folder), clock.note)
        with clock.step("merge"):
            merge.merge_functions(packages, "decode", made, _quiet)
        with clock.step("read back"):
            facts, digest = read_package(made), tree_digest(made)
        with clock.step("gate"):
            found = measure(made, facts, from_export(export, contract).student, prompt_ids(export, contract), clock)
    return clock.figures(digest=digest, findings=failures(found.evidence, found.repeatable))


def _files(export: Path) -> dict[str, Path]:
    return {name: export / name for name in (PREFILL, DECODE)}


def _quiet(text: str) -> None:
    pass


def _toy(folder: Path) -> Path:
    """An export directory of a random student: files and the part of a contract that converting reads."""
    from interlock.contracts.base import CreatedBy
    from interlock.contracts.export import ShapeResult, ShapeValidation
    from interlock.contracts.io import entries, pretty
    from interlock.environments import environment, record
    from pipeline.export import torchscript
    from runtime.student.checkpoint import random_student

    heads = ModelArch(use_halt_head=True)
    student = random_student(TOY, heads, seed=0).eval().requires_grad_(False)
    signatures = {}
    for name, mode in ((PREFILL, "prefill"), (DECODE, "decode")):
        torchscript.save(name, student, folder / name)
        methods = torchscript.methods(folder / name, TOY)
        sizes = {"n_layers": TOY.n_layers, "n_kv_heads": TOY.n_kv_heads, "d_head": TOY.d_head}
        signatures[name] = Signature(artifact=name, mode=mode, methods=methods, enumerated_T=LENGTHS, use_halt_head=True, **sizes)  # type: ignore[arg-type]
    results = {str(length): ShapeResult(status="ok") for length in LENGTHS}
    contract = ExportContract(
        created_by=CreatedBy(stage="export", project_version="0", source_digest="0" * 64, environment=record(environment("export"))),
        inputs=(), files=entries(folder), toy=True, arch=TOY, model_arch=heads, step=0, use_halt_head=True, mode="both", enumerated_T=LENGTHS,
        signatures=signatures, tokenizer=None,
        shape_validation=ShapeValidation(primary_shape=LENGTHS[0], primary_ok=True, all_ok=True, results=results),
    ).sealed()  # fmt: skip
    (folder / FILE).write_bytes(pretty(contract))
    return folder


def _table(figures: dict[str, dict[str, Any]]) -> None:
    plain, ours = figures["plain"], figures["ours"]
    base = plain["seconds"]["convert"]
    table = Table(box=SIMPLE_HEAD, title="conversion of all functions, processor seconds, one thread", title_justify="left")
    for name in ("step", "plain", "ours", "ours / plain convert", "peak MB plain", "peak MB ours"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for step in STEPS:
        seconds = [given["seconds"].get(step) for given in (plain, ours)]
        memory = [given["peak_mb"].get(step) for given in (plain, ours)]
        ratio = f"{seconds[1] / base:.2f}" if step != "load" else ""
        table.add_row(step, *(f"{value:.1f}" if value is not None else "-" for value in seconds), ratio,
                      *(f"{value:.0f}" if value is not None else "-" for value in memory))  # fmt: skip
    whole = sum(seconds for step, seconds in ours["seconds"].items() if step != "load")
    table.add_row("all but load", f"{base + plain['seconds']['merge']:.1f}", f"{whole:.1f}", f"{whole / base:.2f}", "", "")
    table.caption = f"gate: {len(ours['findings'])} findings; package {ours['digest'][:16]}"
    console = Console(width=120)
    console.print(table)
    parts = Table(box=SIMPLE_HEAD, title="where ours goes: step and function", title_justify="left")
    parts.add_column("part")
    parts.add_column("seconds", justify="right")
    for name, seconds in sorted(ours["parts"].items(), key=lambda item: -item[1]):
        parts.add_row(name, f"{seconds:.1f}")
    console.print(parts)


if __name__ == "__main__":
    main()
