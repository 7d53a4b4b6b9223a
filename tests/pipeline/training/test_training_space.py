"""A training without space for its next state keeps the last one, says so, and goes on from there to the bytes of one that had room."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
from fakes.trainings import data, settings, trained
from reliability import namespaces
from safetensors import safe_open

from interlock.errors import StageFailed
from pipeline.training.loop import fit
from pipeline.training.ranks import Ranks
from pipeline.training.state import FILE

pytestmark = [pytest.mark.train, pytest.mark.needs("namespaces")]


def finished(folder: Path) -> str:
    """The digest of the weights at the end of twelve steps, of which every third is saved."""
    student, whole = trained(settings()), hashlib.sha256()
    fit(student, data(), settings(), folder, Ranks(), lambda line, tokens: None)
    for name, weight in sorted(student.state_dict().items()):
        whole.update(name.encode() + weight.detach().numpy().tobytes())
    return whole.hexdigest()


def on_a_small_disk(folder: Path, size: int) -> dict[str, Any]:
    namespaces.mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    said = ""
    try:
        finished(folder)
    except StageFailed as error:
        said = f"{error.problem}; {error.remedy}"
    left = sorted(path.name for path in folder.iterdir())
    step = 0
    if left:
        with safe_open(str(folder / FILE), framework="pt") as file:
            step = json.loads(file.metadata()["interlock"])["step"]
    namespaces.mount("-o", "remount,size=64m", folder)
    return {"said": said, "left": left, "step": step, "end": finished(folder)}


# Room for none, for one and not for the next one beside it.
@pytest.mark.parametrize(("room", "step"), [(0.5, 0), (1.5, 3)])
def test_the_last_state_stays_and_the_training_goes_on_from_it(room: float, step: int, tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "small").mkdir()
    whole = finished(tmp_path / "room")
    size = (tmp_path / "room" / FILE).stat().st_size
    found = namespaces.inside(on_a_small_disk, tmp_path / "small", int(size * room))
    assert "no space is left" in found["said"], found
    assert (found["left"], found["step"], found["end"]) == ([FILE] if step else [], step, whole)
