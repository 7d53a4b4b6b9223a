"""Keys: what changes one, what does not, and that it is the same in both interpreters."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from interlock.environments import ROOT, environment
from pipeline.driver.index import Index
from pipeline.driver.keys import Sources, describe_module

MODULE = '''"""A docstring."""
import json
from pkg import helper

LIMIT = 3


def work(x: int) -> int:
    """What it does."""
    # why
    return helper.twice(x) + LIMIT


class Thing:
    """A class."""

    size = 1
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "pkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "stage.py").write_text(MODULE)
    (folder / "helper.py").write_text("from pkg import deep\n\n\ndef twice(x):\n    return deep.one(x) * 2\n")
    (folder / "deep.py").write_text('NAME = "table.txt"\n\n\ndef one(x):\n    return x\n')
    (folder / "table.txt").write_text("1 2 3")
    (folder / "unused.py").write_text("import pkg.stage\n")
    return folder


def digest(package: Path) -> str:
    return Sources(Index(), {"pkg": package.parent}).digest("pkg.stage")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stage.py", "LIMIT = 3", "LIMIT = 4"),
        ("stage.py", "+ LIMIT", "- LIMIT"),
        ("stage.py", "x: int) -> int", "x: int, y: int = 0) -> int"),
        ("stage.py", "size = 1", "size = 2"),
        ("helper.py", "* 2", "* 3"),
        ("deep.py", "return x", "return x + 0"),
        ("deep.py", "one(x)", "one(x, /)"),
        ("table.txt", "1 2 3", "1 2 4"),
        ("__init__.py", "", "import os\n"),
    ],
)
def test_what_may_change_behaviour_changes_the_digest(package: Path, file: str, old: str, new: str) -> None:
    before = digest(package)
    text = (package / file).read_text()
    (package / file).write_text(text.replace(old, new) if old else new)
    assert digest(package) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stage.py", "# why", "# another reason"),
        ("stage.py", '"""What it does."""', '"""Other words."""'),
        ("stage.py", "\n\n\nclass", "\n\n\n\n\nclass"),
        ("stage.py", "LIMIT = 3", "LIMIT = (3)  # three"),
        ("stage.py", "twice(x) + LIMIT", "twice(\n        x\n    ) + LIMIT"),
        ("stage.py", "import json", "import   json"),
        ("unused.py", "import pkg.stage", "import pkg.stage, os"),
    ],
)
def test_what_cannot_change_behaviour_does_not(package: Path, file: str, old: str, new: str) -> None:
    before = digest(package)
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    assert digest(package) == before


def test_a_definition_that_changed_is_told_by_name(package: Path) -> None:
    before = describe_module(package / "stage.py")["parts"]
    (package / "stage.py").write_text(MODULE.replace("size = 1", "size = 2").replace("LIMIT = 3", "LIMIT = 30"))
    after = describe_module(package / "stage.py")["parts"]
    assert {name for name in before if before[name] != after[name]} == {"LIMIT", "Thing"}


# Forms that interpreters have parsed into different trees: f-strings (PEP 701), positional-only arguments, match, walrus, type comments, unions.
FORMS = r"""
def f(a, /, b: "int | None" = None, *c, d=1, **e) -> list[int]:
    x = f"{a!r:>{b}} and {'nested'} {a + 1:.2f}" "tail" f"{d}"
    y = b"bytes" if False else u"text"
    match a:
        case {"k": [1, *rest], **others} if (n := len(rest)) > 1:
            return [n]
        case C(x=1) | None | -1:
            pass
    with open("a") as g, open("b"):
        async_ = lambda *p, q=2: (yield)
    return [i async for i in g] if 0 else [*c, *(j for j in d[1:2, ...])]


class C(object, metaclass=type):
    x: int = 1_000
    @property
    def y(self): return 1e400, 1j, -0.0, True, None, ...
"""


def test_both_interpreters_read_the_same_trees(tmp_path: Path) -> None:
    """Keys are made by whichever interpreter runs the driver."""
    (tmp_path / "forms.py").write_text(FORMS)
    script = "\n".join(
        [
            "import sys; from pathlib import Path; from pipeline.driver.keys import describe_module, source_digest",
            f"print(describe_module(Path({str(tmp_path / 'forms.py')!r})))",
            "print([source_digest(f'pipeline.stages.{name}') for name in ('import_', 'export', 'convert', 'deploy')])",
        ]
    )
    said = {
        name: subprocess.run([environment(name).python, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for name in ("train", "export")
    }
    assert said["train"] == said["export"]


def test_an_index_gives_what_was_read_until_the_file_is_another(tmp_path: Path) -> None:
    import os
    import time

    file, index = tmp_path / "file", Index(tmp_path / "index.json")
    read: list[str] = []

    def look(path: Path) -> str:
        read.append(path.read_text())
        return read[-1]

    file.write_text("one")
    assert [index.value(file, "text", look) for _ in range(2)] == ["one", "one"]
    assert len(read) == 2, "a file that has just changed may change again within the same tick, so its value is not kept"
    time.sleep(0.1)
    assert [index.value(file, "text", look) for _ in range(3)] == ["one"] * 3
    assert len(read) == 3
    stat = file.stat()
    file.write_text("two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert index.value(file, "text", look) == "two", "the same size and time, but another change time"
    time.sleep(0.1)
    index.value(file, "text", look)
    index.save()
    count = len(read)
    assert Index(tmp_path / "index.json").value(file, "text", look) == "two" and len(read) == count
    (tmp_path / "index.json").write_text("{")
    assert Index(tmp_path / "index.json").value(file, "text", look) == "two" and len(read) == count + 1
