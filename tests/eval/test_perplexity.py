"""Suite `perplexity`: the text is whole, figures are those of one pass over each passage by torch, equal models have a ratio of one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from fakes.latent_students import known_student, trained, write_checkpoint

from eval.asking import Model, Settings
from eval.asking.table import opened
from eval.items import Item
from eval.scoring.table import row
from eval.shipped import read_suite
from eval.summary import figures_of
from interlock.contracts import checkpoint, io
from interlock.errors import StageFailed, UsageError
from pipeline.datasets import passages
from pipeline.datasets.items import items_of
from pipeline.datasets.tasks import Order
from runtime.load import load
from runtime.student.checkpoint import read_weights
from runtime.student.model import Student

pytestmark = pytest.mark.train


def rows_of(count: int) -> list[tuple[str, str]]:
    return [(str(one.prompt), str(one.answer)) for one in passages.TASK.make(Order(0, "test", count, {}, frozenset()))]


def test_nothing_of_the_text_is_left_out() -> None:
    found = rows_of(passages.TASK.rows["test"])
    assert "".join(given + rest for given, rest in found) == passages.text()
    assert all(100 < len(given) < 200 and len(rest) > 700 and not given.endswith(" ") for given, rest in found)
    assert len({given for given, _ in found}) == len(found)
    with pytest.raises(UsageError, match="cannot have"):
        rows_of(len(found) + 1)


def test_another_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.txt").write_text(passages.text() + ".")
    monkeypatch.setattr(passages, "TEXT", tmp_path / "other.txt")
    with pytest.raises(StageFailed, match="not the text"):
        rows_of(1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A student, and one whose last norm is a little other."""
    folder, other = tmp_path_factory.mktemp("read"), known_student()
    with torch.no_grad():
        other.norm_f.weight.mul_(0.9)
    return [write_checkpoint(folder / name, student, trained()) for name, student in (("one", known_student()), ("other", other))]


TEXTS = ["abcdefghij" * 2, "jihgf", "ab z", "c d" * 30]


def measured(ours: Path, theirs: Path) -> dict[str, float]:
    models = [Model(directory=one, backend="eager") for one in (ours, theirs)]
    ask = opened(Settings(asks="reading", max_new_tokens=1, model=models[0], against=models[1]))
    items = [Item(f"{n}", "ab", text) for n, text in enumerate(TEXTS)]
    figures = figures_of(read_suite("perplexity"), [row(read_suite("perplexity"), item, ask(item)) for item in items], 0.95)
    return {name: figure.interval.measured for name, figure in figures.items() if figure.interval}


def by_torch(folder: Path) -> list[torch.Tensor]:
    """Log-probabilities [T, V] before each token of each text, fp64, from one pass over the whole of it."""
    contract = io.read_contract(folder / checkpoint.FILE, checkpoint.CheckpointContract)
    student = Student(contract.arch, contract.model_arch)
    student.load_state_dict({name: value.float() for name, value in read_weights(folder, contract).items()})
    tokenizer = load(folder).tokenizer
    found = []
    for text in TEXTS:
        given, said = tokenizer.encode_prompt("ab"), tokenizer.encode(text)
        with torch.inference_mode():
            logits = student(torch.tensor([[*given, *said]])).logits[0]
        found.append(torch.log_softmax(logits.double(), -1)[len(given) - 1 : -1])
    return found


def test_figures_are_those_of_one_pass_by_torch(two: list[Path]) -> None:
    ours, theirs = by_torch(two[0]), by_torch(two[1])
    tokenizer = load(two[0]).tokenizer
    said = [torch.tensor(tokenizer.encode(text)) for text in TEXTS]
    lost = [
        torch.cat([torch.nn.functional.nll_loss(log, ids, reduction="none") for log, ids in zip(side, said, strict=True)]) for side in (ours, theirs)
    ]
    kl = torch.cat([torch.nn.functional.kl_div(a, b, log_target=True, reduction="none").sum(-1) for a, b in zip(ours, theirs, strict=True)])
    found = measured(two[0], two[1])
    assert found["perplexity"] == pytest.approx(math.exp(lost[0].mean()), rel=1e-5)
    assert found["perplexity_against"] == pytest.approx(math.exp(lost[1].mean()), rel=1e-5)
    assert found["perplexity_ratio"] == pytest.approx(math.exp((lost[0] - lost[1]).mean()), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(float(lost[0].sum()) / math.log(2) / sum(map(len, TEXTS)), rel=1e-5)
    assert found["kl_mean"] == pytest.approx(float(kl.mean()), rel=1e-3) and found["kl_max"] == pytest.approx(float(kl.max()), rel=1e-3)
    assert found["kl_mean"] > 1e-5


def test_a_model_is_the_same_as_itself(two: list[Path]) -> None:
    found = measured(two[0], two[0])
    assert found["perplexity_ratio"] == 1 and found["kl_max"] == 0 and found["same_top"] == 1 and found["perplexity"] == found["perplexity_against"]


def test_rows_are_items() -> None:
    made = list(passages.TASK.make(Order(0, "test", 3, {}, frozenset())))
    assert [one.strata["stratum"] for one in items_of(made)] == ["chapter i"] * 3 and all(one.answer for one in items_of(made))
