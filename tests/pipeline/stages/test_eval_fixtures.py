"""`--fixtures`: the tools of another dataset are replayed, if they answer what the items expect; they are a part of the run and of the lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.datasets import made

from eval.asking import Endpoint
from eval.shipped import read_suite
from interlock.errors import ContractError, UsageError
from interlock.voice import SilentVoice
from pipeline.stages.eval import Params, Prepared, prepare

pytestmark = pytest.mark.train
OTHER = Endpoint(url="http://127.0.0.1:9/v1", model="nobody")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fixtures")
    made(folder / "own", "contextual", test=30, lines=4)
    made(folder / "more", "contextual", test=60, lines=4)
    made(folder / "elsewhere", "contextual", seed=4, test=30, lines=4)
    made(folder / "questions", "questions", test=60)
    return folder


def prepared(place: Path, **given: Any) -> Prepared:
    suite = read_suite("contextual").model_copy(update={"items": 30})
    params = {"out": place / "out", "dataset": place / "own", "suite": suite, "runner": "openai_http", "other": OTHER}
    return prepare(Params.model_validate({**params, **given}), SilentVoice())


def test_the_tools_of_another_dataset_are_replayed(place: Path) -> None:
    own, more = prepared(place), prepared(place, fixtures=place / "more")
    assert own.settings.dataset == place / "own" and own.replayed == own.source
    assert more.settings.dataset == place / "more" and more.replayed and more.replayed.digest != more.source.digest
    assert [item.id for item in more.items] == [item.id for item in own.items] and more.run != own.run


def test_those_that_do_not_answer_what_items_expect_are_refused(place: Path) -> None:
    with pytest.raises(ContractError) as refused:
        prepared(place, fixtures=place / "elsewhere")
    assert all(one.expected.startswith("a recorded result of `") and one.file.endswith("elsewhere") for one in refused.value.violations)
    with pytest.raises(UsageError, match="has no tools to replay"):
        prepared(place, fixtures=place / "questions")
