"""Builds of stub stages: an interpreter that has the locked packages of environment `train` and the stub package, and recipes for it.

The interpreter is a virtual environment of its own, so that nothing is installed into the project's: builds use it by `--launcher current`.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakes.shell import Said, run

from interlock.environments import ROOT

if TYPE_CHECKING:
    from typing import Self

STUB = Path(__file__).parent / "stub_package"

# What interlock itself imports: enough for its command line and for stages that touch no tensor.
SMALL = {
    "annotated-types", "jinja2", "markdown-it-py", "markupsafe", "mdurl", "msgspec", "packaging", "pydantic", "pydantic-core", "pygments", "rich",
    "typing-extensions", "typing-inspection",
}  # fmt: skip

CHAIN = """
output = "out"
outputs = ["loudest"]

[[stages]]
stage = "words"
params = {{ text = "{text}", rows = {rows}, sleep_s = {sleep_s} }}

[[stages]]
stage = "louder"
inputs = {{ source = "words" }}
params = {{ sleep_s = {sleep_s} }}

[[stages]]
stage = "louder"
name = "loudest"
inputs = {{ source = "louder" }}
params = {{ times = 3, sleep_s = {sleep_s} }}
"""


def interpreter(folder: Path) -> Path:
    """A Python that imports interlock, the packages of the running interpreter, and the stub stages; also isolated (`-I`)."""
    venv.create(folder, symlinks=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site / "stub.pth").write_text("\n".join([str(ROOT), str(STUB), *packages]) + "\n")
    return folder / "bin" / "python"


@dataclass(frozen=True)
class StubProject:
    """A folder in which recipes of stub stages are built."""

    folder: Path
    python: Path

    def write(self, name: str = "chain", *, text: str = "word", rows: int = 3, sleep_s: float = 0.0, more: str = "") -> Path:
        """The chain words → louder → loudest as a recipe file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{name}.toml"
        file.write_text(CHAIN.format(text=text, rows=rows, sleep_s=sleep_s) + more)
        return file

    def asked_before(self) -> Self:
        """With what its interpreter offers to builds, asked once and kept beside it: asking takes longer than building."""
        kept = self.python.parent.parent / "offers"
        if not kept.is_dir():
            with tempfile.TemporaryDirectory() as folder:
                first = StubProject(Path(folder) / "first", self.python)
                first.write()
                first.build()
                shutil.copytree(first.folder / ".interlock" / "offers", kept)
        shutil.copytree(kept, self.folder / ".interlock" / "offers")
        return self

    @property
    def environ(self) -> dict[str, str]:
        return {"INTERLOCK_HOME": str(self.folder / ".interlock")}

    def argv(self, *words: object) -> list[str]:
        return [str(self.python), "-I", "-m", "pipeline.here", *map(str, words)]

    def run(self, *words: object) -> Said:
        """`interlock WORDS` in this folder."""
        return run(self.argv(*words), cwd=self.folder, environ=self.environ)

    def build(self, recipe: str = "chain.toml", *words: object) -> dict[str, Any]:
        """`interlock build` that must succeed; its report."""
        said = self.run("build", recipe, "--launcher", "current", "--json", *words)
        assert said.code == 0, said.err
        document: dict[str, Any] = json.loads(said.out)
        return document


def stub_wheel(folder: Path) -> Path:
    """The stub stages as a wheel: so come stages of other packages into an environment that is made from a lock."""
    made = folder / "interlock_stub-1.0-py3-none-any.whl"
    info = "interlock_stub-1.0.dist-info"
    with zipfile.ZipFile(made, "w") as archive:
        for file in [*STUB.glob("interlock_stub/*.py"), STUB / info / "METADATA", STUB / info / "entry_points.txt"]:
            archive.write(file, file.relative_to(STUB))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*archive.namelist(), f"{info}/RECORD"]))
    return made
