"""Pairs of a preferred and a rejected answer: where they part, the gradient there, and a student that learns to prefer code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
import torch
from fakes.datasets import made, rows_of, written
from fakes.trainings import SPECIAL, rows, settings, trained

from interlock.contracts.checkpoint import CheckpointContract
from interlock.contracts.dataset import Tools
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.datasets.code_mode import eligible
from pipeline.datasets.mapping import Fields, row_of
from pipeline.datasets.rows import Row
from pipeline.driver import stage
from pipeline.stages import train
from pipeline.training import code_mode, step
from pipeline.training.batches import shares
from pipeline.training.examples import Example
from pipeline.training.objective import text_loss
from pipeline.training.ranks import Ranks
from pipeline.training.told import LOG

pytestmark = pytest.mark.train

END = 3


def pair(said: tuple[int, ...], rejected: tuple[int, ...]) -> Example:
    return Example("x", (4, 5), (), said, rejected=rejected)


@pytest.mark.parametrize(
    ("said", "rejected", "more", "less"),
    [
        ((7, 8, 9, END), (7, 6, 5, 4, END), (8, 9, END), (6, 5, 4)),  # from the fork; the end of a rejected answer is none of its faults
        ((7, END), (7, 6, 5, END), (END,), (6, 5)),
        ((7, 8, END), (7, END), (8, END), (END,)),  # unless ending is what it should not have done
        ((8, END), (7, END), (8, END), (7,)),
    ],
)
def test_an_answer_is_asked_from_where_it_parts(
    said: tuple[int, ...], rejected: tuple[int, ...], more: tuple[int, ...], less: tuple[int, ...]
) -> None:
    row = pair(said, rejected)
    first, second = code_mode.asked_of(row)
    assert (said[first], rejected[second]) == (more, less) and code_mode.count(row) == len(more) + len(less)


def with_pairs(count: int) -> list[Example]:
    """Rows of several lengths with steps, every second one rejects something that begins as it does."""
    found = rows(count, steps=(0, 1), lengths=(3, 5))
    return [replace(row, rejected=(*row.tail(0)[:1], 50 + n, 60 + n, END)) if n % 2 else row for n, row in enumerate(found)]


def test_the_gradient_is_that_of_the_closed_form_over_each_text_alone() -> None:
    """-log p of preferred tokens and -log(1 - p) of avoided ones, by one pass over each text without padding."""
    student = trained(settings(latent=None), seed=2).student
    batch = with_pairs(6)
    found = text_loss(student, batch, SPECIAL)[code_mode.LOSS]
    found.total.backward()
    ours = {name: one.grad.clone() for name, one in student.named_parameters() if one.grad is not None}
    student.zero_grad()
    total, places = torch.zeros(()), 0
    for row in batch:
        if not row.rejected:
            continue
        more, less = code_mode.asked_of(row)
        for text, part, sign in ((row.tail(0), more, 1), (row.rejected, less, -1)):
            likely = student(torch.tensor([[*row.prompt, *text]])).logits[0, len(row.prompt) - 1 : -1].double().softmax(-1)
            p = likely[torch.arange(len(text)), torch.tensor(text)][part]
            total = total - (p.log() if sign > 0 else torch.log1p(-p)).sum()
            places += len(p)
    total.backward()
    assert int(found.count) == places == sum(map(code_mode.count, batch))
    assert found.total.item() == pytest.approx(total.item(), rel=1e-5)
    for name, one in student.named_parameters():
        if one.grad is not None:
            assert torch.allclose(ours[name], one.grad, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_with_and_without_pairs_are_one_batch(micro: int) -> None:
    chosen = settings(latent=None, clip=1e6, code_mode={"over": 0})
    batch = with_pairs(8)

    def taken(size: int) -> tuple[torch.Tensor, step.Made]:
        student = trained(chosen)
        optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
        found = step.take(student, optimizer, shares(batch, size), 0, chosen, Ranks(), "step 1")
        return torch.cat([one.detach().flatten() for one in student.parameters()]), found

    (whole, of_whole), (parts, of_parts) = taken(8), taken(micro)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert of_parts.losses == pytest.approx(of_whole.losses, rel=1e-5) and set(of_whole.losses) == {"ce", "code_mode"}
    assert of_whole.total == pytest.approx(of_whole.losses["ce"] + 0.3 * of_whole.losses["code_mode"])


def test_its_weight_grows_with_the_steps() -> None:
    chosen = settings(latent=None, code_mode={"first": 0.0, "weight": 1.0, "over": 10})
    totals = []
    for number in (0, 5, 20):
        student = trained(chosen)
        optimizer = torch.optim.SGD(student.parameters(), lr=1e-6)
        found = step.take(student, optimizer, [with_pairs(4)], 0, chosen, Ranks(), "", number)
        totals.append((found.total - found.losses["ce"]) / found.losses["code_mode"])
    assert totals == pytest.approx([0.0, 0.5, 1.0], abs=1e-4)


def test_what_is_preferred_is_what_greedy_decoding_would_begin_with() -> None:
    """Of two tokens at the fork the likelier, by a pass over each row alone."""
    student = trained(settings(latent=None), seed=4).student.eval()
    batch = [row for row in with_pairs(20) if row.rejected]
    with torch.no_grad():
        for row, found in zip(batch, code_mode.preferred(student, batch, SPECIAL, size=3), strict=True):
            at = code_mode.fork(row)
            logits = student(torch.tensor([[*row.prompt, *row.tail(0)[:at]]])).logits[0, -1]
            assert found == bool(logits[row.tail(0)[at]] > logits[row.rejected[at]])


def row_with(**fields: Any) -> Row:
    return Row.model_validate({"id": "x", "messages": [{"role": "user", "content": "u"}], "answer": "a", **fields}, strict=False)


CALL = {"name": "t", "arguments": {}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"rejected": {"role": "assistant", "content": "", "calls": [CALL]}}, False),
        ({"rejected": {"role": "assistant", "content": "", "calls": [CALL, CALL]}}, True),
        ({"metadata": {"call_sequence": [CALL, CALL]}}, True),
        ({"messages": [{"role": "user", "content": "u"}, {"role": "tool", "content": "x" * 10_000}]}, True),
        ({"metadata": {"intermediate_sizes": [5, 20_000]}}, True),
        ({"metadata": {"pii_tags_present": True}}, True),
        ({"metadata": {"pii_tags_present": True, "eligible_for_code_mode": False}}, False),
    ],
)
def test_pairs_count_where_the_guide_wants_code(fields: dict[str, Any], expected: bool) -> None:
    assert eligible(row_with(**fields)) == expected


@pytest.mark.parametrize(
    "rejected", ["no", {"role": "assistant", "content": "no"}, [{"role": "user", "content": "u"}, {"from": "gpt", "value": "no"}]]
)
def test_pairs_come_in_from_elsewhere(rejected: Any) -> None:
    row, wrong = row_of(Fields({"rejected": "bad"}, separator=" "), {"prompt": "p", "response": "yes", "bad": rejected}, "1")
    assert not wrong and row is not None and row.rejected is not None and row.rejected.content == " no"


@pytest.mark.parametrize(
    "row",
    [
        {"messages": None, "prompt": "p", "rejected": {"role": "assistant", "content": "", "calls": [CALL]}},
        {"rejected": {"role": "user", "content": "x"}},
    ],
)
def test_what_is_no_pair_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="what is rejected"):
        row_with(**row)


SMALL = {"d_model": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_head": 16, "d_ff": 48, "vocab_size": 600, "max_position": 1024}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dialogues of the tool task: preferred is code that calls the tools, rejected the calls themselves."""
    source, out = tmp_path_factory.mktemp("calls") / "data", tmp_path_factory.mktemp("pairs") / "data"
    contract = made(source, "tool-calls", train=32, validation=12, test=8)
    found: dict[str, list[Any]] = {}
    for split, some in rows_of(source, contract).items():
        called = [row for row in some if row.messages and len(row.messages) > 1 and row.messages[1].calls]
        found[split] = [
            {
                "id": row.id, "messages": [{"role": "user", "content": row.messages[0].content}],
                "response": "\n".join(f"run(await import('./servers/{call.name}'), {json.dumps(call.arguments)})" for call in row.messages[1].calls),
                "rejected": {"role": "assistant", "content": "", "calls": [call.model_dump() for call in row.messages[1].calls]},
                "metadata": {"tools": row.metadata["tools"], "call_sequence": row.metadata["call_sequence"]},
            }
            for row in called if row.messages and row.messages[1].calls
        ]  # fmt: skip
    out.mkdir()
    for name in ("tools.json", "fixtures.jsonl"):
        (out / name).write_bytes((source / name).read_bytes())
    written(out, found, tools=Tools(registry="tools.json", fixtures=("fixtures.jsonl",), source="generated"))
    return out


def learnt(dataset: Path, out: Path, **chosen: Any) -> CheckpointContract:
    fields = settings(**{"latent": None, "steps": 16, "batch": 4, "lr": 1e-2, "evaluate_every": 16, **chosen})
    params = train.Params(dataset=dataset, out=out, settings=fields, scratch=train.Scratch.model_validate(SMALL))
    contract = stage.run(train.STAGE, params, SilentVoice(), source="1" * 64).contract
    assert isinstance(contract, CheckpointContract)
    return contract


def test_a_student_learns_to_prefer_code(pairs: Path, tmp_path: Path) -> None:
    """Without cross-entropy, so that the preference alone does it."""
    contract = learnt(pairs, tmp_path / "out", weights={"ce": 0.0}, code_mode={"first": 1.0, "weight": 1.0, "pairs": "all"})
    log = [json.loads(line) for line in (tmp_path / "out" / LOG).read_text().splitlines()]
    assert log[-1]["losses"]["code_mode"] < log[0]["losses"]["code_mode"] / 2
    assert contract.training is not None and contract.training.losses == {"code_mode": 1.0}
    assert contract.training.accuracy["preferred"]["0"] == 1.0
    assert [line["accuracy"]["preferred"]["0"] for line in log if "accuracy" in line][-1] > 0.9


def test_without_a_pair_that_counts_it_is_refused(tmp_path: Path, pairs: Path) -> None:
    made(tmp_path / "plain", "permutation-automaton", train=20, validation=6, test=6)
    with pytest.raises(ContractError, match="learns from pairs") as refused:
        learnt(tmp_path / "plain", tmp_path / "out", code_mode={})
    assert "code_mode.pairs" in refused.value.remedy


def test_a_pair_of_equals_is_refused_by_file_and_line(tmp_path: Path) -> None:
    rows = [{"id": str(n), "prompt": "p", "answer": "a", "rejected": {"role": "assistant", "content": "ab"[n]}} for n in (1, 0)]
    written(tmp_path / "data", {"train": rows, "validation": rows})
    with pytest.raises(ContractError, match="differs from what the row says") as refused:
        learnt(tmp_path / "data", tmp_path / "out", code_mode={"pairs": "all"})
    assert refused.value.violations[0].where == "line 2 /rejected"
