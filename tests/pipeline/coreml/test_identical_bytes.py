"""Two builds of one model are the same bytes: by both lanes, in both layouts, compressed or not, whatever the process, folder, locale or day."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.export, pytest.mark.long]

# One build of everything; a child prints {what: tree digest}.
BUILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, str(Path.cwd() / "tests"))
from fakes.converted_students import LENGTHS, SLOTS, converted
from interlock.contracts.export import PREFILL
from pipeline.coreml import export_lane, functions
from pipeline.coreml.compression.compress import Request, compress
from pipeline.coreml.merge import merge_functions
from pipeline.coreml.normal import tree_digest

into, quiet = Path(sys.argv[1]), lambda text: None
made = converted()
signatures, student = made.exported.signatures, made.exported.student
merge_functions(made.packages, "decode", into / "trace.mlpackage", quiet)
parts, _ = export_lane.convert_stateful_exported(student, signatures, functions.plan_functions(LENGTHS), SLOTS, into, quiet)
merge_functions(parts, "decode", into / "export.mlpackage", quiet)
single = signatures[PREFILL], LENGTHS, 64, "iOS18"
functions.convert_single(made.exported.files[PREFILL], *single, into / "single trace.mlpackage", quiet)
export_lane.convert_single_exported(student, *single, into / "single export.mlpackage", quiet)
for method in ("int8", "int4", "palette4"):
    request = Request(method, None, None, None)
    compress(into / "trace.mlpackage", into / f"{method}.mlpackage", request, student, (), list(range(101)), quiet)
kept = [path for path in sorted(into.glob("*.mlpackage")) if path.stem in sys.argv[2].split(",")]
print(json.dumps({path.stem: tree_digest(path) for path in kept}))
"""
KINDS = ("trace", "export", "single trace", "single export", "int8", "int4", "palette4")


@pytest.fixture(scope="module")
def builds(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, dict[str, str]]]:
    """Two children at once, which have nothing in common but the source and the interpreter."""
    running = []
    for seed, zone, locale, name in (("1", "UTC", "C", "one"), ("2", "Pacific/Kiritimati", "tr_TR.UTF-8", "another folder, ü")):
        into = tmp_path_factory.mktemp(name)
        (into / "tmp").mkdir()
        given = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "TMPDIR": str(into / "tmp"), "OMP_NUM_THREADS": seed}
        given |= {"PATH": os.environ["PATH"], "PYTHONUTF8": "1"}
        command = [sys.executable, "-W", "ignore", "-c", BUILD, str(into), ",".join(KINDS)]
        running.append((into, subprocess.Popen(command, cwd=root, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)))
    ended = [(into, *child.communicate(timeout=600)) for into, child in running]
    assert all(out for _, out, _ in ended), ended[0][2] + ended[1][2]
    assert not [err for _, _, err in ended if "it/s" in err or "not been tested" in err]  # the converter kept quiet
    return [(into, json.loads(out.splitlines()[-1])) for into, out, _ in ended]


@pytest.mark.parametrize("kind", KINDS)
def test_two_builds_are_the_same_bytes(kind: str, builds: list[tuple[Path, dict[str, str]]]) -> None:
    (_, first), (_, second) = builds
    assert len(first[kind]) == 64 and first[kind] == second[kind]


def test_no_day_and_no_folder_is_left_in_a_package(builds: list[tuple[Path, dict[str, str]]]) -> None:
    """What would differ tomorrow, or elsewhere: the clock cannot be turned here, so nothing of it may be written."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    days = [(today + datetime.timedelta(shift)).isoformat().encode() for shift in (-1, 0, 1)]
    for into, digests in builds:
        for kind in digests:
            for file in (path for path in (into / f"{kind}.mlpackage").rglob("*") if path.is_file()):
                content = file.read_bytes()
                assert not [mark for mark in (*days, str(into).encode()) if mark in content], file
