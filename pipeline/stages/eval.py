"""Stage `eval`: a deployment and a dataset in, an evaluation out, published only if its gates hold.

Here: what is asked for, which rows become items, what is kept. Not here: asking, judging, intervals (eval), reading rows (pipeline/datasets), pages
(pipeline/reports).
Answers are kept in `.interlock/answers` as they come, under the digest of everything that they depend on: a run that was killed goes on from there,
and what another suite asked is not asked again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from eval.asking import SPOKEN, Endpoint, Foreign
from eval.suite import ANSWERED, UNANSWERED, Claim, Suite, changed
from interlock import journal
from interlock.canonical import canonical_json
from interlock.contracts import checkpoint, deployment, evaluation, io
from interlock.contracts.base import Contract, InputRef
from interlock.contracts.dataset import DatasetContract
from interlock.contracts.evaluation import GateResult
from interlock.errors import ContractError, GateFailed, UsageError, Violation
from interlock.fs import Workspace, publish, workspace
from interlock.voice import SilentVoice, Voice
from pipeline.driver import answers as stored
from pipeline.driver import keys, stage
from pipeline.gates.rejected import EVIDENCE, Rejection

if TYPE_CHECKING:
    from eval.answers import Answers
    from eval.asking import Settings
    from eval.calls import Made
    from eval.items import Item

SUMMARY, STUBS = "summary.json", "fixtures-missing.jsonl"
PAGE, JUNIT, COMMENT = "report.html", "junit.xml", "comment.md"
Backend = Literal["eager", "torchscript", "reference", "coreml"]
Mode = Literal["fp16", "fp32", "fast"]
RunnerName = Literal["deployment", "orchestrator", "coreml", "openai_http", "hf_local"]


class Params(stage.Params):
    """`suite` is asked of `deployment` through `backend` (`mode`: of the reference runner), over the rows of `dataset`; or of `other`, a model that
    `runner` reaches in another way.

    `against`, `against_backend`: the second model of suites `parity` and `perplexity`; each is the first one's where only the other is given.
    `answers`: files that shards of the same run wrote. `confidence`: of every interval, two-sided. `jobs`: processes that answer at once,
    which changes no answer. `fixtures`: the dataset whose tools are replayed, where it is not `dataset`. `ray`: address of a Ray cluster whose nodes
    answer instead.
    """

    deployment: Path | None = None
    other: Annotated[Endpoint | Foreign, Field(discriminator="kind")] | None = None
    runner: RunnerName = "deployment"
    dataset: Path
    suite: Suite
    backend: Backend = "reference"
    mode: Mode | None = None
    against: Path | None = None
    against_backend: Backend | None = None
    fixtures: Path | None = None
    answers: tuple[Path, ...] = ()
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    jobs: Annotated[int, Field(ge=1, le=256)] = 1
    ray: str | None = None

    @model_validator(mode="after")
    def _asks_one_model(self) -> Params:
        wanted = {"openai_http": Endpoint, "hf_local": Foreign}.get(self.runner)
        if (self.deployment is None) != (self.other is not None) or (wanted or type(None)) is not type(self.other):
            raise ValueError(f"runner {self.runner} asks one model, of its own kind")
        return self


@dataclass(frozen=True)
class Prepared:
    """What is to be asked of whom. `subject`: of a deployed directory; `suite`: with what is claimed of a model that may fail by itself;
    `replayed`: the dataset of its tools; `run`: the digest of all that an answer depends on beside its item."""

    subject: deployment.DeploymentContract | None
    suite: Suite
    source: DatasetContract
    replayed: DatasetContract | None
    against: Contract | None
    items: list[Item]
    settings: Settings
    run: str


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    ready = prepare(params, voice)
    with voice.task("load torch"):
        from eval.asking import code, tools
        from eval.runners import deployment as plain
        from eval.runners.openai_http import SEED
        from eval.running import answers_of
        from eval.scoring.table import metrics, row
        from eval.statistics import gates
        from eval.summary import figures_of, summary

    suite = ready.suite
    gates.check_known(metrics(suite), suite.gates)
    with journal.opened(stored.file_of(ready.run)) as kept:
        stored.describe(kept, ready.run, _about(ready))
        ask(params, ready, ready.items, kept, voice)
        found = answers_of(ready.items, kept)
    calls = [made for said in found.values() for answer in said.values() for made in answer.calls]
    with voice.task("intervals"):
        rows = [row(suite, item, found[item.id]) for item in ready.items]
        figures = figures_of(suite, rows, params.confidence)
        results = gates.judge(figures, suite.gates, params.confidence, suite.least)
    body: dict[str, Any] = {
        "suite": suite.name,
        "subject": _subject(params, ready, sorted({answer.fingerprint for said in found.values() for answer in said.values()} - {""})),
        "runner": params.runner,
        "backend": params.backend if ready.subject else None,
        "decoding": evaluation.Decoding(temperature=0.0, seed=SEED if params.runner == "openai_http" else None, max_new_tokens=suite.max_new_tokens),
        "prompts": {"code": code.PROMPTS, "tools": tools.PROMPTS}.get(suite.asks, plain.PROMPTS),
        "items": len(ready.items),
        "fixtures": _use(ready, calls) if suite.has_tools else None,
        "gates": results,
        "verdict": gates.verdict(results),
    }
    told = {**summary(suite, rows, figures), "asked": {**_asked(params, ready), **_confined(found)}, "verdict": body["verdict"]}
    files = _files(body, rows, {**told, "gates": [gate.model_dump(mode="json") for gate in results]}, calls)
    if wrong := [gates.told(gate, figures[gate.metric].missed) for gate in results if gates.stops(gate)]:
        raise _failed(params, work, files, results, wrong, [one.digest for one in (ready.subject, ready.source) if one])
    for name, data in files.items():
        work.write(name, data)
    made_from = {one.digest: one for one in (ready.subject, ready.against, ready.source, ready.replayed) if one}
    inputs = tuple(InputRef(kind=one.kind, digest=one.digest) for one in made_from.values())
    return stage.Outcome(body, inputs, toy=any(one.toy for one in made_from.values()))


STAGE = stage.Stage("eval", "train", "evaluation", Params, work, __name__)


def prepare(params: Params, voice: Voice) -> Prepared:
    """Everything that can be wrong before a question is asked. Raises ContractError and UsageError."""
    from eval.asking import Model, Settings, refinement
    from eval.items import sampled
    from eval.running import run_digest
    from pipeline.datasets.items import items_of
    from pipeline.datasets.reading import read_split

    subject = _model(params.deployment, deployment.DeploymentContract, params, voice) if params.deployment else None
    source = stage.read_input(params.dataset, DatasetContract, voice, toy=params.toy)
    against = _other(params.against, params, voice) if params.against else None
    whole = items_of(read_split(params.dataset, source, params.suite.split, voice))
    if not whole:
        place = f"/splits/{params.suite.split}"
        raise ContractError(
            Violation(str(params.dataset), place, "rows with an answer", "none"),
            remedy="name another split or dataset: `interlock data make` makes one",
        )
    second = None
    if params.against or params.against_backend:
        if not params.suite.compares:
            raise UsageError(
                f"suite `{params.suite.name}` asks one model", remedy="leave --against and --against-backend out, or choose parity or perplexity"
            )
        if directory := params.against or params.deployment:
            usual = "eager" if isinstance(against, checkpoint.CheckpointContract) else params.backend
            second = Model(directory=directory, backend=params.against_backend or usual)
    items = sampled(whole, params.suite.items)
    replayed = _replayed(params, source, items, voice) if params.suite.has_tools else None
    # The other ways decide by themselves what of a model's configuration holds.
    configured = params.runner == "orchestrator" and params.suite.asks in SPOKEN
    deployed = Model(directory=params.deployment, backend=params.backend, mode=params.mode, configured=configured) if params.deployment else None
    chosen = params.other or deployed
    assert chosen
    settings = Settings(
        asks=params.suite.asks,
        max_new_tokens=params.suite.max_new_tokens,
        model=chosen,
        against=second,
        dataset=(params.fixtures or params.dataset) if replayed else None,
        judges=params.suite.judges,
    )
    if params.suite.asks not in SPOKEN:
        _ = settings.deployed  # refused before anything is asked
    foreign = [_digest_of(chosen.directory)] if isinstance(chosen, Foreign) else []
    digests = [one.digest for one in (subject, (against or subject) if second else None, replayed) if one]
    judges = [refinement.digest(settings.judges)] if settings.judges else []
    run = run_digest(settings, [*foreign, *digests, *judges], keys.source_digest("eval.running"))
    return Prepared(subject, _suite(params), source, replayed, against, items, settings, run)


def _suite(params: Params) -> Suite:
    """The suite that is judged: of an endpoint it is claimed, too, that every item got an answer."""
    if not isinstance(params.other, Endpoint):
        return params.suite
    gates = {UNANSWERED: Claim(at_most=0), **params.suite.gates} if params.suite.gates else {}
    return changed(params.suite, scorers=(ANSWERED, *(one for one in params.suite.scorers if one != ANSWERED)), gates=gates)


def _digest_of(directory: Path) -> str:
    """Of all files of a foreign directory. Raises ContractError where it is none."""
    from eval.runners.hf_local import check

    check(directory)
    digests = {file.name: keys.sha256_of(file) for file in directory.iterdir() if file.is_file()}
    return hashlib.sha256(canonical_json(digests)).hexdigest()


def _subject(params: Params, ready: Prepared, fingerprints: Sequence[str]) -> evaluation.Subject:
    """fingerprints: all that an endpoint told; where there are several, its model changed between two answers."""
    if ready.subject:
        return evaluation.Subject(kind="deployment", name=f"step {ready.subject.model_info.checkpoint_step}", digest=ready.subject.digest)
    if isinstance(params.other, Endpoint):
        return evaluation.Subject(kind="foreign", name=params.other.model, digest=None, fingerprint=", ".join(fingerprints) or None)
    assert params.other
    return evaluation.Subject(kind="foreign", name=params.other.directory.absolute().name, digest=None)


def ask(params: Params, ready: Prepared, items: Sequence[Item], kept: journal.Journal, voice: Voice) -> int:
    """Every item that has no answer in a file of a shard or in `kept`. Returns how many were asked."""
    from eval.cluster import Order
    from eval.running import ask_all, ask_nodes, taken_over

    taken_over(_records(params.answers), ready.run, kept)
    left = sum(item.digest not in kept for item in items)
    if left < len(items):
        voice.step(f"{len(items) - left} of {len(items)} items were answered before")
    with voice.task(f"ask {params.suite.name}", left, "items") as task:
        if params.ray:
            asked = ask_nodes(items, Order(ready.run, functools.partial(prepared, _anywhere(params))), params.ray, kept, task)
        else:
            asked = ask_all(items, ready.settings, ready.run, kept, params.jobs, task)
    if failed := [item.id for item in items if item.digest not in kept]:
        voice.warn(f"{len(failed)} of {len(items)} items got no answer and are asked again by the same command: {', '.join(failed[:8])}")
    return asked


def prepared(params: Params) -> tuple[Settings, str]:
    """What a process of a node makes of the parameters by itself, everything checked there as here."""
    ready = prepare(params, SilentVoice())
    return ready.settings, ready.run


def _anywhere(params: Params) -> Params:
    """The same from another working directory."""
    paths = {name: value.absolute() for name, value in params if isinstance(value, Path)}
    other = {"other": params.other.model_copy(update={"directory": params.other.directory.absolute()})} if isinstance(params.other, Foreign) else {}
    return params.model_copy(update={**paths, **other, "answers": ()})


def _records(files: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in files:
        for record in journal.records(file):
            yield str(file), record


def _model(directory: Path, kind: type[stage.C], params: Params, voice: Voice) -> stage.C:
    found = stage.read_input(directory, kind, voice, toy=params.toy)
    if found.toy and not params.toy:
        wrong = Violation(str(io.contract_path(directory, found.kind)), "/toy", "false, or an explicit --toy", f"true: a toy {found.kind}")
        raise ContractError(wrong, remedy="add --toy; the evaluation will be marked")
    return found


def _other(directory: Path, params: Params, voice: Voice) -> Contract:
    """The second model of a comparison: a deployment, or a checkpoint."""
    if io.kind_of(directory) == "checkpoint":
        return _model(directory, checkpoint.CheckpointContract, params, voice)
    return _model(directory, deployment.DeploymentContract, params, voice)


def _about(ready: Prepared) -> list[str]:
    """What answers are kept as long as: the models that gave them, or the dataset that asks a model which nobody here can look up."""
    return [one.digest for one in (ready.subject, ready.against) if one] or [ready.source.digest]


def _asked(params: Params, ready: Prepared) -> dict[str, str]:
    """What the contract has no field for: how reference computed, the second model of a comparison, where an endpoint is."""
    second, other = ready.settings.against, ready.against or ready.subject
    against = {"against": other.digest, "against_backend": second.backend} if second and other else {}
    url = {"endpoint": params.other.url} if isinstance(params.other, Endpoint) else {}
    return {**({"mode": params.mode} if params.mode else {}), **against, **url}


def _confined(found: Mapping[str, Answers]) -> dict[str, str]:
    """What held the programs that were run: the same for all on one machine."""
    held = {", ".join(ran.held) for said in found.values() for answer in said.values() for ran in answer.ran}
    return {"confined_by": "; ".join(sorted(held))} if held else {}


def _use(ready: Prepared, calls: Sequence[Made]) -> evaluation.FixtureUse:
    assert ready.replayed
    assert ready.replayed.tools
    missed = sum(made.result is None for made in calls)
    return evaluation.FixtureUse(dataset=ready.replayed.digest, source=ready.replayed.tools.source, asked=len(calls), missed=missed)


def _replayed(params: Params, source: DatasetContract, items: Sequence[Item], voice: Voice) -> DatasetContract:
    """The dataset whose tools are replayed. Raises ContractError where a call that an item expects has no recorded result: nobody could answer it."""
    from eval.broker.replay import opened, stubs, uncovered

    found = stage.read_input(params.fixtures, DatasetContract, voice, toy=params.toy) if params.fixtures else source
    broker = opened(params.fixtures or params.dataset, found)
    if missing := stubs(uncovered(broker, (call for item in items for call in item.calls))):
        place = str(params.fixtures or params.dataset)
        wrong = (Violation(place, "", f"a recorded result of `{one['name']}`", json.dumps(one["key"])[:80]) for one in missing[:20])
        raise ContractError(*wrong, remedy="record what is missing: one line each with `name`, `key`, `digest` and `result`")
    return found


def _files(body: dict[str, Any], rows: Sequence[dict[str, Any]], told: dict[str, Any], calls: Sequence[Made]) -> dict[str, bytes]:
    """What an evaluation holds beside its contract; stubs of the results that were asked for and are not recorded, where there are any."""
    from eval.broker.replay import stubs
    from pipeline.reports.evaluation_page import comment, evaluation_page, junit
    from pipeline.reports.evaluation_view import view

    shown = view(body, rows, told)
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    missing = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in stubs(made for made in calls if made.result is None))
    return {
        **({STUBS: missing.encode("utf-8", "surrogatepass")} if missing else {}),
        evaluation.RESULTS: lines.encode("utf-8", "surrogatepass"),
        SUMMARY: (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"),
        PAGE: evaluation_page(shown).encode("utf-8", "replace"),
        JUNIT: junit(shown),
        COMMENT: comment(shown).encode("utf-8", "replace"),
    }


def _failed(
    params: Params, work: Workspace, files: dict[str, bytes], results: Sequence[GateResult], wrong: Sequence[str], made_from: Sequence[str]
) -> GateFailed:
    """Keeps every answer and the reason under `rejected/`."""
    kept = params.rejected_path
    why = Rejection(findings=tuple(wrong), command=params.again, kind="evaluation", made_from=tuple(dict.fromkeys(made_from)))
    with workspace(kept, work.fs) as rejected:
        for name, data in files.items():
            rejected.write(name, data)
        rejected.write(EVIDENCE, io.pretty(why))
        publish(rejected, kept)
    return GateFailed(
        f"the deployment does not show what its gates claim ({len(wrong)} of {len(results)})",
        measured="; ".join(wrong),
        threshold=", ".join(f"{gate.name} {gate.claim} {gate.threshold:g}" for gate in results),
        remedy=f"nothing was published; read every answer in `{kept / PAGE}`",
    )
