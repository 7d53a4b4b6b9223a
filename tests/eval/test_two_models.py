"""Suites `parity` and `halting`: divergences against torch's own formula, equal and other students, heads that cannot be asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.function_backend import FunctionBackend
from fakes.latent_students import known_student, trained, write_checkpoint

from eval.asking import Model, Settings
from eval.asking.divergence import compared
from eval.asking.table import opened
from eval.items import Item
from eval.scoring.table import row
from eval.shipped import read_suite
from eval.summary import figures_of
from interlock.errors import UsageError

pytestmark = pytest.mark.train


def test_the_divergence_is_torchs_at_every_token() -> None:
    """fp64 from the same fp32 logits: equal to rounding, and to the nine digits that are kept."""
    tables = np.random.default_rng(3).normal(0, 3, (2, 12, 50)).astype(np.float32)

    def logits_of(table: int) -> FunctionBackend:
        return FunctionBackend(lambda ids: tables[table, len(ids) - 1].copy())

    ids, tokens = [1, 2, 3], [7, 8, 9, 10]
    found = compared(logits_of(0), logits_of(1), ids, tokens)
    ours, theirs = (torch.log_softmax(torch.from_numpy(tables[k, 2:6]).double(), -1) for k in (0, 1))
    expected = torch.nn.functional.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1)
    assert found["kl"] == pytest.approx(expected.tolist(), rel=1e-8)
    assert found["same_top"] == tuple(float(a == b) for a, b in zip(ours.argmax(-1), theirs.argmax(-1), strict=True))
    chosen = [(ours[k, token].exp() - theirs[k, token].exp()).item() for k, token in enumerate(tokens)]
    assert found["p_change"] == pytest.approx(chosen, rel=1e-7)
    for name, log in (("nll", ours), ("nll_against", theirs)):
        lost = torch.nn.functional.cross_entropy(log, torch.tensor(tokens), reduction="none")
        assert found[name] == pytest.approx(lost.tolist(), rel=1e-8)
    assert compared(logits_of(0), logits_of(1), ids, []) == dict.fromkeys(found, ())


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("two") / "known", known_student(), trained())


def asked(known: Path, other: Path) -> list[dict[str, object]]:
    models = [Model(directory=one, backend="eager") for one in (known, other)]
    ask = opened(Settings(asks="parity", max_new_tokens=16, model=models[0], against=models[1]))
    items = [Item(f"i{number:02}", "abcdefghij"[number % 10], " z") for number in range(20)]
    return [row(read_suite("parity"), item, ask(item)) for item in items]


def test_a_student_is_the_same_as_itself(known: Path) -> None:
    found = figures_of(read_suite("parity"), asked(known, known), 0.95)
    measured = {name: figure.interval.measured for name, figure in found.items() if figure.interval}
    assert measured["kl_max"] == 0 == measured["right_change"] and measured["same_answer"] == 1 == measured["same_top"]


def test_another_student_is_not(known: Path, tmp_path: Path) -> None:
    """One that goes from `c` straight to the answer: where it is asked the way through `c`, it says another thing, rightly too."""
    student = known_student()
    with torch.no_grad():
        student.blocks[0].mlp.w2.weight[:, 2] = student.blocks[0].mlp.w2.weight[:, 4]
    rows = asked(known, write_checkpoint(tmp_path / "other", student, trained()))
    found = figures_of(read_suite("parity"), rows, 0.95)
    differs = {row["given"] for row in rows if not row["scores"]["same_answer"]}  # type: ignore[index]
    assert differs >= {"a", "b", "c"} and "d" not in differs
    assert found["kl_max"].interval and found["kl_max"].interval.measured > 0.1
    assert found["same_top"].interval and 0 < found["same_top"].interval.measured < 1


def test_what_cannot_be_compared_or_asked_is_refused(known: Path) -> None:
    model = Model(directory=known, backend="eager")
    with pytest.raises(UsageError, match="given one"):
        opened(Settings(asks="parity", max_new_tokens=4, model=model))
    with pytest.raises(UsageError, match="no halt head that reads sentence ends"):
        opened(Settings(asks="halting", max_new_tokens=4, model=model))
    with pytest.raises(UsageError, match="needs a dataset"):
        opened(Settings(asks="tools", max_new_tokens=4, model=model))
