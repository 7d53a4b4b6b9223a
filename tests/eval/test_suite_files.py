"""The suites that are shipped, and suite files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.scoring.table import metrics, words
from eval.shipped import read_suite, shipped
from eval.statistics.gates import check_known
from eval.suite import Claim, changed
from interlock.errors import ContractError, UsageError
from pipeline.datasets import generators, tasks

pytestmark = pytest.mark.train


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_suite_names_what_there_is(name: str) -> None:
    suite = read_suite(name)
    check_known(metrics(suite), suite.gates)
    assert words(suite).keys() == metrics(suite).keys() and all(words(suite).values())
    if suite.dataset:
        known = tasks.settled(generators.task(suite.dataset.task), suite.dataset.parameters)
        assert suite.items is None or suite.items <= int(known[suite.split])


def test_the_suites_of_the_guide_are_there() -> None:
    assert shipped() == ["contextual", "halting", "latent", "needles", "parity", "perplexity", "refinement", "smoke", "tools"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("itmes = 60", "/itmes"),
        ("items = 0", "/items"),
        ('asks = "nicely"', "/asks"),
        ("scorers = []", "/scorers"),
        ("[gates.right]\nat_least = 0.9\nat_most = 1", "/gates/right"),
        ("[gates.right]\nat_leest = 0.9", "/gates/right/at_leest"),
        ('[gates.right]\nat_least = "0.9"', "/gates/right/at_least"),
        ("[dataset]\nseed = 1", "/dataset/task"),
        ("items = ", ""),
        ('judges = ["contains:yes"]', "/"),
    ],
)
def test_a_suite_file_is_read_strictly(tmp_path: Path, change: str, where: str) -> None:
    lines = {"description": '"mine"', "asks": '"text"', "scorers": '["answers"]'}
    head = "".join(f"{name} = {value}\n" for name, value in lines.items() if not change.startswith(name))
    (tmp_path / "mine.toml").write_text(f"{head}{change}\n")
    with pytest.raises(ContractError) as refused:
        read_suite(str(tmp_path / "mine.toml"))
    assert where in [one.where for one in refused.value.violations]


def test_a_name_that_is_none_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean `smoke`"):
        read_suite("smoek")
    with pytest.raises(UsageError, match="no suite"):
        read_suite("../suites/smoke")
    with pytest.raises(UsageError, match="no scorer"):
        metrics(changed(read_suite("smoke"), scorers=("nothing",)))


def test_changes_come_over_the_suites_own_values() -> None:
    suite = changed(read_suite("smoke"), items=7, split=None, gates={"right": Claim(at_least=0.5)})
    assert suite.items == 7 and suite.split == "test" and set(suite.gates) == {*read_suite("smoke").gates, "right"}
