"""Stage `eval`: a deployment and a dataset in, an evaluation out, published only if its gates hold.

Here: what is asked for, which rows become items, what is kept. Not here: asking, judging, intervals (eval), reading rows (pipeline/datasets).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from interlock.contracts import deployment, evaluation, io
from interlock.contracts.base import InputRef
from interlock.contracts.dataset import DatasetContract
from interlock.errors import ContractError, GateFailed, Violation
from interlock.fs import Workspace, publish, workspace
from interlock.voice import Voice
from pipeline.driver import stage
from pipeline.gates.rejected import EVIDENCE, Rejection

if TYPE_CHECKING:
    from eval.items import Item
    from eval.statistics.gates import Figure

SUMMARY = "summary.json"


class Params(stage.Params):
    """`dataset`'s `split` is asked of `deployment` through `backend` (`mode`: of the reference runner). `items`: the most that are asked.

    `gates`: for each metric of the suite the least that must be shown. `confidence`: of every interval, two-sided.
    """

    deployment: Path
    dataset: Path
    suite: Literal["latent"] = "latent"
    split: str = "test"
    backend: Literal["eager", "torchscript", "reference", "coreml"] = "reference"
    mode: Literal["fp16", "fp32", "fast"] | None = None
    items: Annotated[int, Field(ge=1)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1, le=1 << 24)] = 256
    gates: dict[str, float] = Field(default_factory=dict)
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    with voice.task("load torch"):
        from eval.runners.deployment import PROMPTS
        from eval.statistics import gates
        from eval.suites import latent
        from runtime.load import load

    subject = stage.read_input(params.deployment, deployment.DeploymentContract, voice, toy=params.toy)
    source = stage.read_input(params.dataset, DatasetContract, voice, toy=params.toy)
    _allow_toy(params, subject)
    gates.check_known(latent.FIGURES, params.gates)
    items = _items(params, source, voice)
    with voice.task(f"load {params.deployment}"):
        loaded = load(params.deployment, params.backend, mode=params.mode)
    with voice.task(f"ask {params.suite}", len(items), "items") as task:
        asked = latent.ask(loaded, items, params.max_new_tokens, task)
    with voice.task("intervals"):
        figures = latent.figures(asked, params.confidence)
        results = gates.judge(figures, params.gates, params.confidence)
    rows = [json.dumps(one.row(), ensure_ascii=False) for one in asked]
    files = {
        evaluation.RESULTS: "".join(f"{row}\n" for row in rows).encode("utf-8", "surrogatepass"),
        SUMMARY: (json.dumps({**latent.summary(asked), "figures": _told(figures)}, indent=2) + "\n").encode(),
    }
    if wrong := [gates.told(gate, figures[gate.metric].missed) for gate in results if gate.verdict != "pass"]:
        raise _failed(params, work, files, wrong, (subject.digest, source.digest))
    for name, data in files.items():
        work.write(name, data)
    return stage.Outcome(
        body={
            "suite": params.suite,
            "subject": evaluation.Subject(kind="deployment", name=f"step {subject.model_info.checkpoint_step}", digest=subject.digest),
            "runner": "deployment",
            "backend": params.backend,
            "decoding": evaluation.Decoding(temperature=0.0, seed=None, max_new_tokens=params.max_new_tokens),
            "prompts": PROMPTS,
            "items": len(items),
            "fixtures": None,
            "gates": results,
            "verdict": gates.verdict(results),
        },
        inputs=(InputRef(kind="deployment", digest=subject.digest), InputRef(kind="dataset", digest=source.digest)),
        toy=subject.toy or source.toy,
    )


STAGE = stage.Stage("eval", "train", "evaluation", Params, work, __name__)


def _items(params: Params, source: DatasetContract, voice: Voice) -> list[Item]:
    """The rows of the split that have a prompt and an answer, all or as many as are asked. Raises ContractError where there is none."""
    from eval.items import Item, sampled
    from pipeline.datasets.reading import read_split

    rows = read_split(params.dataset, source, params.split, voice)
    whole = [Item(row.id, row.prompt, row.answer, len(row.steps or ())) for row in rows if row.prompt is not None and row.answer]
    if not whole:
        found = Violation(str(params.dataset), f"/splits/{params.split}", "rows with a prompt and an answer", "none")
        raise ContractError(found, remedy="name another split or dataset: `interlock data make` makes one")
    return sampled(whole, params.items)


def _allow_toy(params: Params, subject: deployment.DeploymentContract) -> None:
    if subject.toy and not params.toy:
        found = Violation(str(params.deployment / deployment.FILE), "/toy", "false, or an explicit --toy", "true: a toy deployment")
        raise ContractError(found, remedy="add --toy; the evaluation will be marked")


def _told(figures: dict[str, Figure]) -> dict[str, Any]:
    intervals = {name: figure.interval._asdict() if figure.interval else {} for name, figure in figures.items()}
    return {name: {**intervals[name], "n": figure.n, "method": figure.method} for name, figure in figures.items()}


def _failed(params: Params, work: Workspace, files: dict[str, bytes], wrong: Sequence[str], made_from: tuple[str, str]) -> GateFailed:
    """Keeps every answer and the reason under `rejected/`."""
    kept = params.rejected_path
    why = Rejection(findings=tuple(wrong), command=params.again, kind="evaluation", made_from=made_from)
    with workspace(kept, work.fs) as rejected:
        for name, data in files.items():
            rejected.write(name, data)
        rejected.write(EVIDENCE, io.pretty(why))
        publish(rejected, kept)
    return GateFailed(
        f"the deployment does not show what its gates claim ({len(wrong)} of {len(params.gates)})",
        measured="; ".join(wrong),
        threshold=", ".join(f"{name} at least {least:g}" for name, least in sorted(params.gates.items())),
        remedy=f"nothing was published; every answer is in `{kept}`",
    )
