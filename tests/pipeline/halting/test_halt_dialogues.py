"""What is asked: the same every time, each request once, and a fresh set that shares nothing with the one that a head is fitted on."""

from __future__ import annotations

import pytest

from pipeline.driver.index import Index
from pipeline.driver.keys import Sources
from pipeline.halting.dialogues import FAMILIES, PARTS, Dialogue, dialogues, read


@pytest.fixture(scope="module")
def sets() -> tuple[list[Dialogue], list[Dialogue]]:
    return dialogues("development"), dialogues("fresh")


def test_both_sets_are_large_enough_for_what_is_claimed_and_have_every_family(sets: tuple[list[Dialogue], list[Dialogue]]) -> None:
    development, fresh = sets
    assert len(development) >= 6300 and len(fresh) >= 2300 and len({one.template for one in fresh}) >= 100
    assert {one.family for one in development} == {one.family for one in fresh} == set(FAMILIES)


def test_nothing_is_asked_twice_in_either_set(sets: tuple[list[Dialogue], list[Dialogue]]) -> None:
    prompts = [one.prompt for one in (*sets[0], *sets[1])]
    assert len(set(prompts)) == len(prompts)


def test_the_fresh_set_shares_no_template_and_no_entity(sets: tuple[list[Dialogue], list[Dialogue]]) -> None:
    assert not {one.template for one in sets[0]} & {one.template for one in sets[1]}
    second = read(PARTS["fresh"][0][0]).entities
    for file, _ in (*PARTS["development"], *PARTS["reserve"]):
        first = read(file).entities
        for field in ("lists", "concepts", "capitals", "translations", "opposites"):
            assert not set(getattr(first, field)) & set(getattr(second, field)), field
        assert not {claim[0] for claim in first.claims} & {claim[0] for claim in second.claims}
        countries = [{*one.capitals, *(country for names in one.continents.values() for country in names)} for one in (first, second)]
        assert not countries[0] & countries[1]
    sums = [{one.about for one in dialogues if one.family == "arithmetic"} for dialogues in sets]
    assert not sums[0] & sums[1]


def test_a_stage_that_asks_them_has_their_files_in_its_key() -> None:
    """Else a suite goes on asking the questions of an earlier version, out of the store."""
    files = {f"pipeline/halting/{file}" for parts in PARTS.values() for file, _ in parts}
    assert len(files) == 4 and files <= Sources(Index()).closure("pipeline.stages.data").keys()


def test_the_same_dialogues_come_every_time(sets: tuple[list[Dialogue], list[Dialogue]]) -> None:
    assert dialogues("fresh") == sets[1]


def test_prompts_are_plain_text_without_places_left_open(sets: tuple[list[Dialogue], list[Dialogue]]) -> None:
    """What answers.prompt_ids relies on: no control token, no space at either end."""
    for one in (*sets[0], *sets[1]):
        assert one.prompt == one.prompt.strip() and not set("{}<|>") & set(one.prompt), one.prompt
