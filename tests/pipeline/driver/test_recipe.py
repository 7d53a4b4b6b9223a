"""Recipes: strict reading, values from outside, matrices."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import ContractError, UsageError
from pipeline import recipe


def write(folder: Path, text: str) -> str:
    file = folder / "mine.toml"
    file.write_text(text)
    return str(file)


BASE = 'output = "out"\n[source]\ncheckpoint = "random:0"\n'


def test_every_shipped_recipe_is_valid_and_has_a_description() -> None:
    assert set(recipe.shipped()) >= {"smollm2", "random"}
    for name in recipe.shipped():
        assert len(recipe.load(name).common.description) > 20


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        (BASE + "[exprt]\n", "", "did you mean `export`?"),
        (BASE + "[export]\nlenghts = [64]\n", "/export", "did you mean `lengths`?"),
        (BASE + "[export]\nlengths = []\n", "/export/lengths", "length >= 1"),
        (BASE + "[export]\nlengths = [0]\n", "/export/lengths", ">= 1"),
        (BASE + '[export]\nprimary = "64"\n', "/export/primary", "int"),
        (BASE + "[export]\nprimary = true\n", "/export/primary", "int"),
        (BASE + '[compress]\nmethod = "int7"\n', "/compress/method", "int8"),
        (BASE + "[compress]\ntarget_kl = nan\n", "/compress/target_kl", ""),
        (BASE + "[compress]\ntarget_kl = inf\n", "/compress/target_kl", ""),
        (BASE + "[compress]\ntarget_kl = 0.01\ntarget_bytes = 5\n", "", "two targets"),
        (BASE + '[convert]\nenabled = false\n[compress]\nmethod = "int8"\n', "", "needs a package"),
        (BASE + "[gates]\npsnr_db = -1\n", "/gates/psnr_db", ">= 0"),
        (BASE + '[deploy]\ntier = "tier_4"\n', "/deploy/tier", "tier_3"),
        ('output = "out"\n', "", "[source]"),
        (BASE + '[data]\npath = "d"\nteacher = {path = "https://host/v1"}\n[train]\nsteps = 1\n', "/data/teacher", "interlock data teach"),
        (BASE + '[data]\npath = "d"\nteacher = {path = "t", model = "m"}\n[train]\nsteps = 1\n', "/data/teacher", "max_new_tokens"),
        (BASE + '[data]\npath = "d"\nteacher = {path = "t"}\n', "", "no [train]"),
        ('[source]\ncheckpoint = "random:0"\n', "", "output"),
        ('outputs = ["deploid"]\n' + BASE, "", "deploid"),
        (BASE + "[matrix]\nmethod = 1\n", "/matrix/method", "list"),
        (BASE + '[matrix]\n"compress.method" = []\n', "/matrix/compress.method", "list"),
        (BASE + '[matrix]\n"compress.method" = ["int8", "int8"]\n', "/matrix/compress.method", "differ"),
        (BASE + f'[matrix]\n"compress.group" = {list(range(101))}\n"export.primary" = {list(range(1, 101))}\n', "/matrix", "at most 10000"),
        (BASE + '[matrix]\n"compress.method" = ["int8"]\nexclude = [{"compress.method" = "int8"}]\n', "/matrix/exclude", "at least one cell"),
        (BASE + "a = 1\na = 2\n", "", "TOML"),
        (BASE + "x = [" * 2000, "", "TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, where: str, told: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ContractError) as caught:
        recipe.load(file)
    violation = caught.value.violations[0]
    assert violation.file == file and violation.where.startswith(where)
    assert told in f"{violation.expected} {violation.found}", violation


def test_a_recipe_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean `smollm2`"):
        recipe.load("smolm2")
    with pytest.raises(UsageError, match="no recipe"):
        recipe.load("../toy")
    with pytest.raises(UsageError, match="no recipe"):
        recipe.load("missing.toml")


def test_set_takes_toml_values_and_plain_words() -> None:
    loaded = recipe.load(
        "random", ["compress.method=int8", "export.lengths=[32, 64]", "toy=false", 'output="elsewhere"', "source.checkpoint=random:7"]
    )
    made = loaded.common
    assert (made.compress.method, made.export.lengths, made.toy, made.output) == ("int8", [32, 64], False, "elsewhere")
    assert made.source is not None and made.source.checkpoint == "random:7"


@pytest.mark.parametrize("text", ["compress.method", "=int8", "compress..method=int8", "source.checkpoint.x=1", "a b=1"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises((UsageError, ContractError)):
        recipe.load("random", [text])


def test_a_matrix_has_a_cell_for_each_combination_that_no_rule_excludes(tmp_path: Path) -> None:
    file = write(tmp_path, BASE + '[matrix]\n"compress.method" = ["none", "int8", "int4"]\n"convert.layout" = ["multifunction", "single"]\n'
                 'exclude = [{"compress.method" = "int4", "convert.layout" = "single"}]\n')  # fmt: skip
    loaded = recipe.load(file)
    assert [cell.name for cell in loaded.cells] == [
        "method=none,layout=multifunction", "method=none,layout=single", "method=int8,layout=multifunction", "method=int8,layout=single",
        "method=int4,layout=multifunction",
    ]  # fmt: skip
    assert [(cell.recipe.compress.method, cell.recipe.convert.layout) for cell in loaded.cells][3] == ("int8", "single")


def test_set_also_reaches_a_matrix(tmp_path: Path) -> None:
    file = write(tmp_path, BASE + '[matrix]\n"compress.method" = ["none", "int8"]\n')
    assert len(recipe.load(file).cells) == 2
    assert {cell.recipe.output for cell in recipe.load(file, ["output=there"]).cells} == {"there"}


@given(st.text(max_size=200))
def test_no_text_is_a_crash(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "any.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises((ContractError, UsageError)):
        recipe.load(str(file))
