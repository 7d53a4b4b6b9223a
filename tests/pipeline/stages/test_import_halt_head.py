"""A head that was fitted on a checkpoint's weights goes into the checkpoint, tokens are renamed, and what comes of it generates and stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.shell import interlock
from fakes.toys import write_latest, write_tokenizer

from interlock.contracts import checkpoint, io
from interlock.contracts.checkpoint import CheckpointContract
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.driver import stage
from pipeline.driver.graph import build_graph
from pipeline.driver.index import Index
from pipeline.driver.plan import Planner
from pipeline.driver.store import Store
from pipeline.halting import head
from pipeline.launchers import current
from pipeline.recipe import expand
from pipeline.stages import import_
from pipeline.verify import verify
from runtime.engine.endings import ends_cleanly
from runtime.engine.generate import generate
from runtime.engine.sampling import SamplingParams
from runtime.engine.turn import Generation, GenerationParams
from runtime.load import load
from runtime.student.checkpoint import read_weights

pytestmark = pytest.mark.train

FACTS = {"threshold": 0.6, "knows": ("capital",), "seed": 1, "answers": 10, "l2": 0.01, "evidence": {"auc": 0.9}}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`latest.pt` without a head, `tokenizer`, `plain` imported from them, `always.safetensors`, a head of its weights that says halt everywhere, and
    `with`, imported with that."""
    folder = tmp_path_factory.mktemp("head")
    write_latest(folder / "latest.pt", halt_head=False)
    write_tokenizer(folder / "tokenizer")
    brought(folder, "plain")
    weights = read_weights(folder / "plain", read(folder / "plain"))
    write(folder / "always.safetensors", head.backbone_digest(weights), bias=(-2.0, 2.0))
    brought(folder, "with", halt_head=folder / "always.safetensors")
    return folder


def brought(folder: Path, out: str, **more: Any) -> None:
    params = {"source": f"pt:{folder / 'latest.pt'}", "tokenizer": folder / "tokenizer", "out": folder / out, "toy": True, **more}
    stage.run(import_.STAGE, import_.Params(**params), SilentVoice())


def read(directory: Path) -> CheckpointContract:
    return io.read_artifact(directory, CheckpointContract)


def write(path: Path, backbone: str, *, width: int = 64, bias: tuple[float, float] = (0.0, 0.0)) -> None:
    facts = head.HeadFacts(backbone=backbone, **FACTS)  # type: ignore[arg-type]  # the values above
    head.write(path, head.Head(torch.zeros(2, width), torch.tensor(bias), facts))


def test_the_checkpoint_has_the_head_and_says_what_it_was_taught(toy: Path) -> None:
    plain, made = read(toy / "plain"), read(toy / "with")
    assert made.model_arch.use_halt_head and made.parameters == plain.parameters + 2 * 64 + 2
    assert made.training is not None and made.training.halt is not None
    halt = made.training.halt
    assert (halt.reads, halt.threshold, halt.knows, halt.evidence) == ("sentence_end", 0.6, ("capital",), {"auc": 0.9})
    weights = read_weights(toy / "with", made)
    assert weights["halt_head.bias"].tolist() == [-2, 2]
    assert head.backbone_digest(weights) == head.backbone_digest(read_weights(toy / "plain", plain)) == halt.backbone
    verify(toy / "with", SilentVoice())


def test_the_head_ends_an_answer_where_a_sentence_or_line_ends_and_nowhere_else(toy: Path) -> None:
    """At every place the head says halt, with 0.982: obeyed from the first end on, and not at all by a threshold above it."""
    loaded = load(toy / "with")
    ids = loaded.tokenizer.encode_prompt("a")

    def said(seed: int, threshold: float | None) -> Generation:
        sampling = SamplingParams(temperature=3.0, seed=seed)
        return generate(loaded.backend, loaded.tokenizer, ids, GenerationParams(sampling, 300, (), loaded.info.eos_ids, halt_threshold=threshold))

    ends = {seed: [end for end in range(len(text) + 1) if ends_cleanly(text[:end])] for seed in range(9) if (text := said(seed, None).text)}
    seed, (first, *_) = next((seed, found) for seed, found in ends.items() if len(found) > 1)
    assert said(seed, 0.99).text == said(seed, None).text
    bound = said(seed, 0.6)
    assert (bound.reason, bound.text) == ("halt", said(seed, None).text[:first])
    words = ("infer", toy / "with", "--raw", "--prompt", "a", "--temperature", 3, "--seed", seed, "--max-new-tokens", 300)
    told = interlock(*words)
    assert told.out == bound.text + "\n" and "the halt head ended it" in told.err


def test_a_head_of_other_weights_or_another_width_is_refused_with_both_named(toy: Path) -> None:
    write(toy / "foreign.safetensors", "b" * 64)
    digest = head.backbone_digest(read_weights(toy / "plain", read(toy / "plain")))
    with pytest.raises(ContractError, match=f"(?s){digest}.*{'b' * 64}"):
        brought(toy, "refused", halt_head=toy / "foreign.safetensors")
    write(toy / "wide.safetensors", digest, width=63)
    with pytest.raises(ContractError, match=r"(?s)width 64.*width 63"):
        brought(toy, "refused", halt_head=toy / "wide.safetensors")
    assert not (toy / "refused").exists()


def test_a_source_with_a_head_of_its_own_takes_no_second(toy: Path, tmp_path: Path) -> None:
    write_latest(tmp_path / "latest.pt")
    with pytest.raises(ContractError, match="a source without a halt head"):
        brought(toy, "second", source=f"pt:{tmp_path / 'latest.pt'}", halt_head=toy / "always.safetensors")


def test_unused_control_tokens_become_bot_and_eot_and_nothing_else_changes(toy: Path) -> None:
    (toy / "bare").mkdir()
    document = json.loads((toy / "tokenizer" / "tokenizer.json").read_text())
    names = {"<bot>": "<spare_1>", "<eot>": "<spare_2>"}
    for entry in document["added_tokens"]:
        entry["content"] = names.get(entry["content"], entry["content"])
    document["model"]["vocab"] = {names.get(token, token): number for token, number in document["model"]["vocab"].items()}
    (toy / "bare" / "tokenizer.json").write_text(json.dumps(document))
    (toy / "bare" / "tokenizer_config.json").write_text((toy / "tokenizer" / "tokenizer_config.json").read_text())
    brought(toy, "renamed", tokenizer=toy / "bare", latent_tokens=("<spare_1>", "<spare_2>"))
    plain, made = read(toy / "plain"), read(toy / "renamed")
    assert made.tokenizer is not None and plain.tokenizer is not None
    assert (made.tokenizer.bot_id, made.tokenizer.eot_id) == (259, 260) == (plain.tokenizer.bot_id, plain.tokenizer.eot_id)
    before, after = (json.loads((toy / name / checkpoint.TOKENIZER).read_bytes()) for name in ("plain", "renamed"))
    assert before == after  # the toy's own tokenizer calls them <bot> and <eot> from the start
    with pytest.raises(ContractError, match="a control token `a`"):
        brought(toy, "refused", tokenizer=toy / "bare", latent_tokens=("<spare_1>", "a"))
    with pytest.raises(ContractError, match="no token `<bot>` yet"):
        brought(toy, "refused", latent_tokens=("<|im_start|>", "<|im_end|>"))


def test_the_step_is_known_by_the_bytes_of_the_head_not_by_its_place(toy: Path, tmp_path: Path) -> None:
    """Equal bytes elsewhere are the same step; other bytes in the same place are another."""

    def key(file: Path) -> str | None:
        document = {"output": str(tmp_path), "source": {"checkpoint": "random:0", "halt_head": str(file)}, "toy": True}
        graph = build_graph(expand(tmp_path / "r.toml", document), "current")
        planner = Planner(graph, Store(tmp_path / "store"), Index(), current, lambda node: False)
        planner.look()
        return next(step.key for step in planner.steps.values() if step.node.title == "import")

    (tmp_path / "always.safetensors").write_bytes((toy / "always.safetensors").read_bytes())
    same = key(toy / "always.safetensors")
    assert same is not None and same == key(tmp_path / "always.safetensors")
    write(tmp_path / "always.safetensors", "c" * 64)
    assert key(tmp_path / "always.safetensors") != same
