"""`interlock serve` as a process of its own over a small student, the application without a process, and checkpoints for both."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakes import byte_tokenizer, latent_students
from fakes.makers import maker

from interlock.contracts import checkpoint, io
from interlock.contracts.base import InputRef
from interlock.contracts.checkpoint import Arch, ModelArch
from runtime.config import RuntimeConfig
from runtime.student.checkpoint import random_student

if TYPE_CHECKING:
    from runtime.load import Loaded

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


@dataclass
class Answer:
    """One choice. calls: names and arguments; finish: why it is over."""

    text: str = ""
    calls: list[list[str]] = field(default_factory=list)
    finish: str | None = None

    def take(self, said: dict[str, Any], finish: str | None) -> None:
        """A message, or what is new of one."""
        assert self.finish is None
        self.text, self.finish = self.text + (said.get("content") or ""), finish
        for call in said.get("tool_calls") or []:
            if call["function"].get("name"):
                self.calls.append([call["function"]["name"], ""])
            self.calls[-1][1] += call["function"].get("arguments") or ""


def answered(loaded: Loaded, bodies: list[dict[str, Any]], *, running: int) -> list[list[Answer]]:
    """The choices that the application answers to each of these requests for a chat, all asked at once and so many run at a time; with no socket."""
    import asyncio

    import httpx2

    from runtime.engine.scheduler import Limits, Scheduler
    from runtime.orchestration.inference import configured
    from runtime.orchestration.parameters import Choices, generation_params
    from runtime.orchestration.refine import Rules
    from runtime.serving.app import Service, application
    from runtime.serving.gate import Access, Gate
    from runtime.serving.metrics import Metrics
    from runtime.serving.running import Model

    config = configured(loaded, Path(), None, None, {}, "test").config
    scheduler, metrics = Scheduler(loaded.backend, Limits(running=running)), Metrics()
    model = Model("it", loaded, generation_params(loaded, config, Choices()), Rules(1.0, None, 1))
    service = Service(model, scheduler, metrics, 60.0, 0)
    transport = httpx2.ASGITransport(Gate(application(service), Access(), metrics, lambda _line: None))

    async def one(client: httpx2.AsyncClient, body: dict[str, Any]) -> list[Answer]:
        reply = await client.post("/v1/chat/completions", json={"model": "it", **body}, timeout=60)
        assert reply.status_code == 200, reply.text
        stream, events = body.get("stream"), [reply.text]
        if stream:
            events = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: {")]
        made: dict[int, Answer] = {}
        for choice in (choice for event in events for choice in json.loads(event)["choices"]):
            made.setdefault(choice["index"], Answer()).take(choice["delta" if stream else "message"], choice["finish_reason"])
        return [answer for _, answer in sorted(made.items())]

    async def all_of_them() -> list[list[Answer]]:
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(one(client, body) for body in bodies))

    try:
        return asyncio.run(all_of_them())
    finally:
        scheduler.close()
