"""Long attention leaves out what its mask hides, and no bit of the result says so."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.mil import attention

HEADS, GROUP, DEPTH = 6, 3, 16


def operands(length: int, start: int, slots: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random queries at positions from `start` on, keys and values in every slot, a causal mask of -1e4."""
    generator = torch.Generator().manual_seed(length + start)
    query = torch.randn(1, HEADS, length, DEPTH, generator=generator)
    key, value = (torch.randn(1, HEADS // GROUP, slots, DEPTH, generator=generator) for _ in range(2))
    hidden = torch.arange(slots)[None] > torch.arange(start, start + length)[:, None]
    return query, key, value, (hidden.float() * -1e4)[None, None]


def plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """The operations of the program: heads repeated, then one attention over all slots."""
    repeated = (part[:, :, None].expand(-1, -1, GROUP, -1, -1).reshape(1, HEADS, -1, DEPTH) for part in (key, value))
    return F.scaled_dot_product_attention(query, *repeated, attn_mask=mask)


def same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of slots of every part that was taken."""
    found: list[int] = []
    original = attention._shown

    def shown(mask: Tensor, cut: int) -> int:
        found.append(original(mask, cut))
        return found[-1]

    monkeypatch.setattr(attention, "_shown", shown)
    return found


@pytest.mark.parametrize(
    ("length", "start", "slots", "expected"),
    [(2048, 0, 2304, [1024, 2048]), (2500, 0, 2560, [1024, 2560]), (3072, 100, 3200, [1536, 2560, 3200]), (2047, 0, 2100, [2048])],
)
def test_parts_give_the_bits_of_the_whole(length: int, start: int, slots: int, expected: list[int], read: list[int]) -> None:
    given = operands(length, start, slots)
    assert same_bits(attention.attend(*given, GROUP, slots, 0.0), plain(*given))
    assert read == expected


def grow_keys(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> None:
    """A hidden key whose score outweighs its mask."""
    key[0, 0, -1] = 1e5 * query[0, 0, 0]


def hide_little(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> None:
    mask.clamp_(min=-1001.0)
    key *= 40
    query *= 40


def break_a_value(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> None:
    value[0, 0, -1, 3] = float("inf")


def break_a_key(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> None:
    key[0, 1, -1, 3] = float("nan")


@pytest.mark.parametrize("change", [grow_keys, hide_little, break_a_value, break_a_key])
def test_what_the_mask_does_not_hide_is_computed(change: object, read: list[int]) -> None:
    given = operands(2048, 0, 2304)
    untouched = plain(*given)
    change(*given)  # type: ignore[operator]
    expected = plain(*given)
    assert not same_bits(expected[:, :, :1024], untouched[:, :, :1024])
    assert same_bits(attention.attend(*given, GROUP, 2304, 0.0), expected)
    assert read == [1024, 2048]
