"""`interlock serve` as a process of its own over a small student, and checkpoints for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes import byte_tokenizer, latent_students
from fakes.makers import maker

from interlock.contracts import checkpoint, io
from interlock.contracts.base import InputRef
from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.config import RuntimeConfig
from runtime.student.checkpoint import random_student

# What a person types is all that the model of known steps reads.
BARE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write_student(folder: Path, *, ends: bool = True, **changes: Any) -> Path:
    """A checkpoint with random weights and a byte tokenizer: it says nothing sensible, and the same for the same prompt. ends: by tokens of its own;
    else only a limit ends an answer."""
    from safetensors.torch import save_file

    data = byte_tokenizer.tokenizer_json()
    known = byte_tokenizer.info_of(data)
    info = known.model_copy(update={"has_chat_template": True, "eos_ids": known.eos_ids if ends else ()})
    fields = {"d_model": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_head": 16, "d_ff": 96, "rope_theta": 1e4, "norm_eps": 1e-5,
              "tie_embeddings": False, "max_position": 2048, "vocab_size": info.vocab_size}  # fmt: skip
    student = random_student(Arch(**{**fields, **changes}), ModelArch(), seed=5)
    folder.mkdir(parents=True)
    weights = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    save_file(weights, folder / checkpoint.WEIGHTS)
    (folder / checkpoint.TOKENIZER).write_bytes(data)
    (folder / checkpoint.CHAT_TEMPLATE).write_text(byte_tokenizer.CHATML, encoding="utf-8")
    contract = checkpoint.CheckpointContract(
        created_by=maker("import"),
        inputs=(InputRef(kind="source", digest="2" * 64),),
        files=io.entries(folder),
        toy=True,
        arch=student.arch,
        model_arch=student.heads,
        dtype="float32",
        parameters=sum(tensor.numel() for tensor in weights.values()),
        tokenizer=info,
        source=checkpoint.Source(form="random", name="toy", sha256="2" * 64),
    ).sealed()
    (folder / checkpoint.FILE).write_bytes(io.pretty(contract))
    return folder


def write_latent_student(folder: Path) -> tuple[Path, Path]:
    """The student of known latent steps with a template, and a configuration that has it reason in spans which its halt head ends."""
    made = latent_students.write_checkpoint(folder, latent_students.known_student(), latent_students.trained())
    (made / checkpoint.CHAT_TEMPLATE).write_text(BARE, encoding="utf-8")
    document = json.loads((made / checkpoint.FILE).read_bytes())
    document["tokenizer"]["has_chat_template"] = True
    document["files"] = [entry.model_dump() for entry in io.entries(made)]
    old = checkpoint.CheckpointContract.model_validate_json(json.dumps(document))
    (made / checkpoint.FILE).write_bytes(io.pretty(old.sealed()))
    config = folder.with_name("runtime.json")
    latent = RuntimeConfig(latent_mode_enabled=True, halt_head_enabled=True, temperature=0.0, max_latent_length=latent_students.MAX_SLOTS)
    config.write_bytes(latent.to_json())
    return made, config


@dataclass
class Served:
    """url: of the process; started: what it said of itself."""

    process: subprocess.Popen[str]
    started: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.started["url"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code and the rest of what it said on stderr."""
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=60)
        return self.process.returncode, log


def run(model: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline.cli", "serve", str(model), "--port", "0", "--json", "--threads", "1", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})


@contextlib.contextmanager
def served(model: Path, *options: str, **environment: str) -> Iterator[Served]:
    """A server that answers; it is killed with the block if it was not stopped."""
    process = run(model, *options, **environment)
    try:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            text += line
        yield Served(process, json.loads(text))
    finally:
        process.kill()
        process.communicate()
