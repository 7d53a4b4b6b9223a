"""The cells of a matrix: the front that no cell beats, and winners by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import UsageError
from pipeline.driver.matrix import Row, front, parse_rule


def row(cell: str, size: float, kl: float, psnr: float = 60, **more: str) -> Row:
    return Row(cell, {}, {"bytes": size, "kl_mean": kl, "kl_max": 10 * kl, "psnr_db": psnr}, digest="0" * 64, **more)


CELLS = [
    row("fp16", 270e6, 1e-5),
    row("int8", 140e6, 2e-3, 41),
    row("int4", 90e6, 4e-2, 31),
    row("bad", 80e6, 0.2, rejected="KL"),
    row("worse", 280e6, 1e-3),
]


def test_the_front_has_what_no_passing_cell_beats() -> None:
    assert front(CELLS) == {"fp16", "int8", "int4"}


@pytest.mark.parametrize(
    ("text", "best"),
    [
        ("smallest", "int4"),
        ("smallest where all gates pass", "int4"),
        ("smallest where kl_mean <= 0.01", "int8"),
        ("most faithful where bytes <= 150MB", "int8"),
        ("most faithful where bytes < 140MB and all gates pass", "int4"),
        ("smallest where psnr_db >= 50 and bytes > 1kB", "fp16"),
        ("smallest  where   all gates pass", "int4"),
        ("smallest where psnr_db >= 400", None),
    ],
)
def test_a_rule_takes_the_best_of_those_that_fit(text: str, best: str | None) -> None:
    chosen = parse_rule(text).choose(CELLS)
    assert (chosen.cell if chosen else None) == best


@pytest.mark.parametrize(
    "text", ["", "small", "smallest where", "smallest where kl <= 1", "smallest where kl_mean = 1", "smallest where kl_mean <= x", "smallest and"]
)
def test_what_is_no_rule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_rule(text)
    assert "smallest where all gates pass" in caught.value.remedy


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20), st.booleans()), max_size=30))
def test_the_front_by_its_definition(cells: list[tuple[int, int, bool]]) -> None:
    rows = [row(str(n), size, kl, **({} if passes else {"rejected": "no"})) for n, (size, kl, passes) in enumerate(cells)]
    found = front(rows)
    for one in rows:
        beaten = any(
            other.passes
            and other.figures["bytes"] <= one.figures["bytes"]
            and other.figures["kl_mean"] <= one.figures["kl_mean"]
            and (other.figures["bytes"], other.figures["kl_mean"]) != (one.figures["bytes"], one.figures["kl_mean"])
            for other in rows
        )
        assert (one.cell in found) == (one.passes and not beaten)
