"""Options of `interlock convert`, as a person types them: sizes, targets, groups."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from interlock.errors import UsageError
from pipeline.stages import convert
from pipeline.verbs.convert import add_options, params_from


def parsed(*words: str) -> convert.Params:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser)
    return params_from(parser.parse_args(["--in", "exported", *words]))


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("97000000", 97_000_000), ("97MB", 97_000_000), ("1.5 GB", 1_500_000_000), ("0.5kB", 500), (" 12 B ", 12)]
)
def test_sizes_are_bytes_or_powers_of_a_thousand(text: str, size: int) -> None:
    assert parsed("--compress", "int8", "--target-size", text).target_bytes == size


@pytest.mark.parametrize("text", ["12XB", "MB", "", "0", "0.4B", "-5MB", "1e9", "1,5GB", "12 mb", "nan", "1" * 30, "1MiB"])
def test_other_sizes_are_refused_with_what_is_a_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="no size: give bytes"):
        parsed("--compress", "int8", f"--target-size={text}")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "a little"])
def test_a_divergence_is_a_positive_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="no positive number"):
        parsed("--compress", "int8", f"--target-kl={text}")


def test_two_targets_are_refused() -> None:
    with pytest.raises(UsageError, match="two targets"):
        parsed("--compress", "int8", "--target-size", "1MB", "--target-kl", "1e-3")


def test_a_group_is_zero_or_more() -> None:
    assert parsed("--compress", "int8", "--group", "0").group == 0
    with pytest.raises(UsageError, match="--group -1"):
        parsed("--compress", "int8", "--group=-1")


def test_what_was_asked_for_reaches_the_stage() -> None:
    params = parsed("--checkpoint", "checkpoint", "--compress", "palette4", "--group", "8", "--target-kl", "2e-3")
    assert (params.source, params.checkpoint) == (Path("exported"), Path("checkpoint"))
    assert (params.compress, params.group, params.target_bytes, params.target_kl) == ("palette4", 8, None, 2e-3)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(argparse.ArgumentError, match="palette5"):
        parsed("--compress", "palette5")
