"""Stage `train` from a dataset directory to a checkpoint, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

pytest.importorskip("tokenizers")
from fakes.datasets import made
from pydantic import BaseModel, ValidationError
from safetensors.torch import load_file

from interlock.contracts import io
from interlock.contracts.checkpoint import CheckpointContract
from interlock.errors import ContractError, InterlockError
from interlock.voice import SilentVoice
from pipeline import recipe_tables
from pipeline.driver import stage
from pipeline.reports.training import training_rows
from pipeline.stages import train
from pipeline.training.settings import CodeMode, Distillation, Latent, Lora, Quantization, Settings, Weights
from runtime.student.checkpoint import load_student

pytestmark = pytest.mark.train

SMALL = {"d_model": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_head": 16, "d_ff": 48, "vocab_size": 320, "halt_head": True}
SETTINGS = {"steps": 4, "batch": 10, "warmup": 2, "evaluate_every": 2, "save_every": 2, "latent": {"step_tokens": 3}}


def run(dataset: Path, out: Path, **changes: Any) -> CheckpointContract:
    document = {"out": str(out), "toy": True, "dataset": str(dataset), "scratch": SMALL, "settings": SETTINGS, **changes}
    contract = stage.run(train.STAGE, train.Params.model_validate_json(json.dumps(document)), SilentVoice()).contract
    assert isinstance(contract, CheckpointContract)
    return contract


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "dataset"
    made(out, "permutation-automaton", train=300, validation=40, test=40, depths="1..3")
    return out


@pytest.fixture(scope="module")
def first(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "checkpoint"
    run(dataset, out)
    return out


def test_a_checkpoint_says_how_it_was_trained(dataset: Path, first: Path) -> None:
    contract = io.read_artifact(first, CheckpointContract)
    source = io.read_contract(io.contract_path(dataset, "dataset"), io.KINDS["dataset"][1])
    assert contract.source.form == "trained" and contract.source.sha256 == source.digest
    assert contract.step == 4 and contract.training is not None and contract.training.latent is not None
    assert contract.training.latent.max_slots == 3 and contract.training.latent.helps is None
    assert contract.model_arch.use_halt_head and contract.tokenizer is not None and contract.tokenizer.bot_id is not None
    assert load_student(first, contract).arch.vocab_size % 32 == 0
    log = [json.loads(line) for line in (first / train.LOG).read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    assert not train.Params(out=first, dataset=dataset, start=first).state_path.exists()


def test_the_same_settings_make_the_same_digest(dataset: Path, first: Path, tmp_path: Path) -> None:
    assert run(dataset, tmp_path / "again").digest == io.read_artifact(first, CheckpointContract).digest


def test_a_training_goes_on_from_a_checkpoint(dataset: Path, first: Path, tmp_path: Path) -> None:
    contract = run(dataset, tmp_path / "second", scratch=None, start=str(first))
    assert contract.step == 8
    assert {ref.kind for ref in contract.inputs} == {"dataset", "checkpoint"}
    before, after = load_file(first / "model.safetensors"), load_file(tmp_path / "second" / "model.safetensors")
    moved = max(float((weight - after[name]).abs().max()) for name, weight in before.items())
    # four steps of AdamW move no weight by more than the sum of the learning rates, and a little by decay
    assert 0 < moved < 4 * 1e-3 * 1.1
    assert (tmp_path / "second" / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()


def test_adapters_end_in_a_plain_checkpoint_that_tells_of_them(dataset: Path, first: Path, tmp_path: Path) -> None:
    lora = {"rank": 2, "targets": ["wq"], "whole": ["halt_head"]}
    contract = run(dataset, tmp_path / "out", scratch=None, start=str(first), settings={**SETTINGS, "lora": lora})
    before, after = load_file(first / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert {name for name, one in after.items() if not one.equal(before[name])} == {"blocks.0.attn.wq.weight", "halt_head.weight", "halt_head.bias"}
    assert contract.parameters == io.read_artifact(first, CheckpointContract).parameters
    assert contract.training is not None and contract.training.lora is not None
    inner = contract.arch.n_heads * contract.arch.d_head
    assert contract.training.lora.trained == 2 * (contract.arch.d_model + inner) + 2 * contract.arch.d_model + 2
    assert "on wq; halt_head whole" in dict(training_rows(contract.training))["adapters"]


def test_a_training_under_rounding_says_what_its_weights_are(dataset: Path, tmp_path: Path) -> None:
    contract = run(dataset, tmp_path / "out", settings={**SETTINGS, "quantization": {"method": "int4", "group": 16}})
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert contract.training is not None and weights.keys() == contract.arch.weight_shapes(contract.model_arch).keys()
    assert dict(training_rows(contract.training))["stored as"].startswith("int4 with a scale for 16 elements")
    rows = weights["embed.weight"].reshape(-1, 16)
    assert max(len(row.unique()) for row in rows) <= 15  # codes from -7 to 7


def test_a_start_and_scratch_are_one_too_many(dataset: Path, first: Path) -> None:
    for changes in ({"start": str(first)}, {"scratch": None}):
        with pytest.raises(ValidationError, match="give one of"):
            run(dataset, first, **changes)


@pytest.mark.parametrize(
    ("parameters", "told"), [({"validation": 0}, "`train` and `validation`"), ({"depths": "1..40", "train": 200, "validation": 60}, "positions")]
)
def test_a_dataset_that_does_not_fit_is_refused(tmp_path: Path, parameters: dict[str, Any], told: str) -> None:
    made(tmp_path / "dataset", "permutation-automaton", **{"train": 100, "validation": 20, "test": 20, "depths": "1..3", **parameters})
    with pytest.raises(ContractError, match=told):
        run(tmp_path / "dataset", tmp_path / "out", scratch={**SMALL, "max_position": 64})
    assert not (tmp_path / "out").exists()


def test_an_edited_dataset_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "dataset", "permutation-automaton", train=100, validation=20, test=20, depths="1..3")
    file = tmp_path / "dataset" / "train.jsonl"
    file.write_bytes(file.read_bytes().replace(b"s1", b"s2", 1))
    with pytest.raises(ContractError, match=r"train\.jsonl"):
        run(tmp_path / "dataset", tmp_path / "out")


def test_spans_need_their_tokens(dataset: Path, first: Path, tmp_path: Path) -> None:
    """A checkpoint whose tokenizer has no `<bot>`: text can be trained, spans cannot."""
    from fakes.artifacts import resealed

    contract = first / "checkpoint_contract.json"
    other = tmp_path / "other"
    other.mkdir()
    for file in first.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    document = json.loads(contract.read_bytes())
    document["tokenizer"] |= {"bot_id": None, "eot_id": None}
    (other / contract.name).write_bytes(json.dumps(resealed(document)).encode())
    with pytest.raises(InterlockError, match="<bot>") as refused:
        run(dataset, tmp_path / "out", scratch=None, start=str(other))
    assert "interlock data tokenizer" in refused.value.remedy
    assert run(dataset, tmp_path / "out", scratch=None, start=str(other), settings={**SETTINGS, "latent": None}).training is not None


@pytest.mark.parametrize(
    ("table", "model", "own"),
    [
        (recipe_tables.Train, Settings, {"scratch", "teacher"}), (recipe_tables.Latent, Latent, set()),
        (recipe_tables.Weights, Weights, set()), (recipe_tables.Distillation, Distillation, set()), (recipe_tables.Scratch, train.Scratch, set()),
        (recipe_tables.CodeMode, CodeMode, set()),
        (recipe_tables.Lora, Lora, set()), (recipe_tables.Quantization, Quantization, set()),
    ],
)  # fmt: skip
def test_a_recipe_says_what_the_stage_takes(table: type[msgspec.Struct], model: type[BaseModel], own: set[str]) -> None:
    """The recipe's tables are msgspec's and the stage's are pydantic's: the same fields, with the same defaults."""
    fields = {field.name: field for field in msgspec.structs.fields(table)}
    assert set(fields) - own == set(model.model_fields)
    assert get_type_hints(table)
    for name in [name for name, one in model.model_fields.items() if not one.is_required()]:
        default = fields[name].default if fields[name].default is not msgspec.NODEFAULT else fields[name].default_factory()  # type: ignore[operator]
        wanted = model.model_fields[name].get_default(call_default_factory=True)
        told = wanted.model_dump() if isinstance(wanted, BaseModel) else list(wanted) if isinstance(wanted, tuple) else wanted
        assert msgspec.to_builtins(default) == told, name
