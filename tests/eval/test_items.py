"""Which items are asked, and which shard has which."""

from __future__ import annotations

from collections import Counter

import pytest

from eval.calls import Call
from eval.items import Item, from_record, sampled, shard_of

# The deployment guide's values.
GOLDEN = {2: [1, 0, 1, 1, 0, 0, 0, 1, 1, 0], 4: [1, 0, 3, 3, 2, 0, 0, 3, 1, 2], 8: [5, 0, 3, 3, 6, 0, 0, 7, 1, 2]}


@pytest.mark.parametrize("shards", GOLDEN)
def test_shards_are_the_guides(shards: int) -> None:
    assert [shard_of(f"sample-{number}", shards) for number in range(10)] == GOLDEN[shards]


def test_more_shards_of_the_guide() -> None:
    assert shard_of("test-sample-123", 4) == 0 and shard_of("42-0-0", 4) == 3
    assert Counter(shard_of(f"sample-{number}", 4) for number in range(100)) == {0: 35, 1: 22, 2: 25, 3: 18}


def test_a_sample_does_not_depend_on_order_or_company() -> None:
    whole = [Item(f"i{number:02}", "p", "a") for number in range(40)]
    some = sampled(whole, 10)
    assert some == sampled(reversed(whole), 10) and [one.id for one in some] == sorted(one.id for one in some)
    assert {one.id for one in sampled(whole, 20)} > {one.id for one in some}
    assert sampled(whole, None) == whole
    # leaving out what was not chosen changes nothing
    assert sampled([*some, *(one for one in whole if one not in some)][:25], 10) == some


def test_a_record_is_the_item_again_and_the_digest_is_of_what_the_model_sees() -> None:
    item = Item("i", None, "12", messages=({"role": "user", "content": "?"},), accepted=(("12", "twelve"),), strata={"lang": "en"},
                calls=(Call("math.multiply", {"a": 3}),), tools=("math.multiply",))  # fmt: skip
    assert from_record(item.record()) == item
    assert Item("other", "p", "b").digest == Item("i", "p", "a").digest != Item("i", "q", "a").digest
