"""A package of stages and gates that each do one thing wrong, written to a folder and installed for real."""

from __future__ import annotations

from pathlib import Path

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "unruly"
version = "1.0"

[project.entry-points."interlock.stages"]
{stages}

[project.entry-points."interlock.gates"]
{gates}

[tool.hatch.build]
dev-mode-dirs = ["."]

[tool.hatch.build.targets.wheel]
packages = ["unruly"]
"""

# An evaluation of nothing, from nothing: the kind that needs no tool and no input.
COMMON = '''
"""What the stages of this package share."""

import os
from pathlib import Path

from interlock.contracts.base import Finding, Frozen, InputRef
from interlock.contracts.evaluation import Decoding, Subject
from pipeline.driver.gate import Gate
from pipeline.driver.stage import Outcome, Params, Stage

BODY = {
    "suite": "none", "subject": Subject(kind="foreign", name="nobody", digest=None), "runner": "openai_http", "backend": None,
    "decoding": Decoding(temperature=0, seed=None, max_new_tokens=1), "prompts": "0" * 64, "items": 1, "fixtures": None, "gates": (),
    "verdict": "inconclusive",
}


class Text(Params):
    text: str = "right"


def results(work, text="right"):
    work.write("results.jsonl", text.encode())
    return Outcome(BODY)


def stage(name, work, params=Text, **more):
    return Stage(name, more.pop("environment", "train"), more.pop("produces", "evaluation"), params, work, __name__, **more)
'''

STAGES = {
    "right": "def work(params, work, voice):\n    return results(work, params.text)",
    "raises": 'def work(params, work, voice):\n    raise KeyError("a bug of its author")',
    "exits": "def work(params, work, voice):\n    raise SystemExit(0)",
    "vanishes": "def work(params, work, voice):\n    os._exit(0)",
    "empty": "def work(params, work, voice):\n    return Outcome(BODY)",
    "illegal": 'def work(params, work, voice):\n    work.write("con", b"")\n    return results(work)',
    "twins": 'def work(params, work, voice):\n    work.write("Notes.txt", b"")\n    work.write("notes.txt", b"")\n    return results(work)',
    "linked": 'def work(params, work, voice):\n    (work.path / "link").symlink_to("/etc/passwd")\n    return results(work)',
    "impostor": 'def work(params, work, voice):\n    work.write("package_contract.json", b"{}")\n    return results(work)',
    "wrong-body": 'def work(params, work, voice):\n    results(work)\n    return Outcome(BODY | {"items": 0, "colour": "red"})',
    "wrong-answer": "def work(params, work, voice):\n    results(work)\n    return BODY",
    "littering": 'def work(params, work, voice):\n    Path("notes.txt").write_text("left in the current folder")\n    return results(work)',
    "beside": 'def work(params, work, voice):\n    (work.path.parent / "notes.txt").write_text("beside")\n    return results(work)',
    "into-out": 'def work(params, work, voice):\n    params.out.mkdir()\n    (params.out / "a").write_text("")\n    return results(work)',
    "talkative": 'def work(params, work, voice):\n    print("words on stdout")\n    os.write(1, b"and past Python")\n    return results(work)',
    "meddling": (
        'def work(params, work, voice):\n    file = params.given / "results.jsonl"\n    file.chmod(0o644)\n    file.write_text("other")\n'
        "    return results(work)\n\nclass Given(Params):\n    given: Path"
    ),
    "reading": "def work(params, work, voice):\n    return results(work, params.file.read_text())\n\nclass Read(Params):\n    file: Path",
}
MORE = {"meddling": ', params=Given, inputs={"given": "evaluation"}', "reading": ', params=Read, reads=("file",)'}

GATES = {
    "agrees": 'return [Finding(text="fine", passed=True, value=1.0, threshold=2.0)]',
    "refuses": 'return [Finding(text="too big", passed=False, value=3.0, threshold=2.0), Finding(text="fine", passed=True)]',
    "silent": "return []",
    "broken": "return 1 / 0",
    "nan": 'return [Finding(text="measured nothing", passed=True, value=float("nan"))]',
    "changing": '(subject.directory / "results.jsonl").write_text("better"); return [Finding(text="fine", passed=True)]',
}


def write(folder: Path, **extra: str) -> Path:
    """The package in `folder`; `extra` are further modules with a STAGE or GATE each, by the name of their stage."""
    package = folder / "unruly"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "common.py").write_text(COMMON)
    for name, work in STAGES.items():
        text = f'from .common import *\nfrom .common import stage\n\n{work}\n\nSTAGE = stage("{name}", work{MORE.get(name, "")})\n'
        (package / f"{_module(name)}.py").write_text(text)
    for name, look in GATES.items():
        text = f"from .common import *\n\n\ndef look(subject, params, voice):\n    {look}\n\n\n"
        text += f'class Bound(Frozen):\n    bound: float = 2.0\n\n\nGATE = Gate("{name}", "evaluation", Bound, look)\n'
        (package / f"gate_{name}.py").write_text(text)
    for name, text in extra.items():
        (package / f"{_module(name)}.py").write_text(text)
    stages = "\n".join(f'{name} = "unruly.{_module(name)}:STAGE"' for name in [*STAGES, *extra])
    gates = "\n".join(f'{name} = "unruly.gate_{name}:GATE"' for name in GATES)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(stages=stages, gates=gates))
    return folder


def _module(name: str) -> str:
    return name.replace("-", "_")
