"""Results of real calls become fixtures that a broker replays; what could not be replayed is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.datasets import made

from eval.broker import replay
from eval.calls import Call
from interlock.contracts.dataset import DatasetContract
from interlock.errors import InterlockError
from interlock.voice import SilentVoice
from pipeline.driver import stage
from pipeline.stages import data_record

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("record") / "contextual"
    made(out, "contextual", test=30, lines=4)
    return out


def record(dataset: Path, folder: Path, *lines: object) -> DatasetContract:
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    params = data_record.Params(dataset=dataset, results=folder / "log.jsonl", out=folder / "recorded")
    contract = stage.run(data_record.STAGE, params, SilentVoice()).contract
    assert isinstance(contract, DatasetContract)
    return contract


def test_a_stub_that_was_filled_in_is_replayed(dataset: Path, tmp_path: Path) -> None:
    before = stage.read_whole(dataset, DatasetContract, SilentVoice())
    call = Call("web.search", {"q": " Nobody  KNOWS "})
    (stub,) = replay.stubs([replay.opened(dataset, before).call(call)])
    contract = record(
        dataset, tmp_path, {**stub, "result": {"count": 7}}, {"name": "people.find", "arguments": {"name": "Ada"}, "result": {"town": "X"}}
    )
    assert contract.tools and contract.tools.source == "recorded" and contract.splits == before.splits
    broker = replay.opened(tmp_path / "recorded", contract)
    assert broker.call(call).result == {"count": 7} and broker.call(Call("people.find", {"name": "Ada"})).result == {"town": "X"}
    assert len(broker.fixtures) == len(replay.opened(dataset, before).fixtures) + 2


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"name": "web.search", "key": {"q": "a"}, "result": None}, "line 1"),
        ({"name": "web.find", "arguments": {}, "result": {}}, "no tool `web.find`"),
        ({"name": "web.search", "arguments": {}, "result": {}}, "`web.search`: q"),
        ([1], "one strict JSON object"),
    ],
)
def test_what_could_not_be_replayed_is_refused(dataset: Path, tmp_path: Path, line: object, told: str) -> None:
    with pytest.raises(InterlockError) as refused:
        record(dataset, tmp_path, line)
    assert told in "\n".join(refused.value.lines())
    assert not (tmp_path / "recorded").exists()


def test_another_result_of_a_known_call_is_refused(dataset: Path, tmp_path: Path) -> None:
    contract = stage.read_whole(dataset, DatasetContract, SilentVoice())
    known = next(iter(replay.opened(dataset, contract).fixtures.values()))
    with pytest.raises(InterlockError, match="another result"):
        record(dataset, tmp_path, {"name": known.name, "key": known.key, "result": {"other": 1}})
