"""Each artifact given where another kind is needed, and valid contracts beside files that are not theirs."""

from __future__ import annotations

import importlib
import itertools
import json
import shlex
import shutil
from pathlib import Path

import pytest
from fakes.artifacts import resealed, write_checkpoint

from interlock.command import parser
from interlock.contracts import checkpoint, deployment, export, io
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.verbs import VERBS
from pipeline.verify import verify

GOLDEN = Path(__file__).parent / "golden" / "v2"


def directory(tmp_path: Path, kind: str) -> Path:
    """A directory with a true contract of `kind`."""
    made = tmp_path / kind
    made.mkdir(parents=True)
    shutil.copy(GOLDEN / ("toy" if (GOLDEN / "toy" / io.KINDS[kind][0]).exists() else kind) / io.KINDS[kind][0], made)
    return made


@pytest.mark.parametrize(("given", "needed"), list(itertools.permutations(io.KINDS, 2)))
def test_each_kind_where_each_other_is_needed(tmp_path: Path, given: str, needed: str) -> None:
    made = directory(tmp_path, given)
    with pytest.raises(ContractError) as refused:
        io.read_artifact(made, io.KINDS[needed][1])
    violation = refused.value.violations[0]
    assert f"`{needed}`" in violation.expected and f"`{given}`" in violation.found
    assert "interlock " in refused.value.remedy


@pytest.mark.parametrize(("given", "needed"), list(itertools.permutations(io.KINDS, 2)))
def test_a_contract_under_anothers_name(tmp_path: Path, given: str, needed: str) -> None:
    made = directory(tmp_path, given)
    (made / io.KINDS[given][0]).rename(made / io.KINDS[needed][0])
    with pytest.raises(ContractError) as refused:
        io.read_artifact(made, io.KINDS[needed][1])
    assert [violation.where for violation in refused.value.violations] == ["/kind"]


@pytest.mark.parametrize(("given", "needed"), list(io.STEPS))
def test_the_command_that_would_work_is_one(tmp_path: Path, given: str, needed: str) -> None:
    made = directory(tmp_path / "a name with 'quotes'", given)
    with pytest.raises(ContractError) as refused:
        io.read_artifact(made, io.KINDS[needed][1])
    words = shlex.split(refused.value.remedy.partition(": ")[2])
    verb = next(verb for verb in VERBS if verb.name == words[1])
    options = parser(f"interlock {verb.name}", verb.summary, verb.example)
    importlib.import_module(verb.module).add_options(options)
    assert str(made) in [str(value) for value in vars(options.parse_args(words[2:])).values()]


@pytest.mark.parametrize(("contract", "files"), list(itertools.permutations(range(4), 2)))
def test_a_contract_of_another_time_beside_these_files(tmp_path: Path, contract: int, files: int) -> None:
    write_checkpoint(tmp_path / "files", files)
    write_checkpoint(tmp_path / "contract", contract)
    shutil.copy(tmp_path / "contract" / checkpoint.FILE, tmp_path / "files")
    with pytest.raises(ContractError) as refused:
        verify(tmp_path / "files", SilentVoice())
    assert [violation.file for violation in refused.value.violations] == [str(tmp_path / "files" / checkpoint.WEIGHTS)]


def replay(tmp_path: Path, name: str, **changes: object) -> ContractError:
    """A deployment in which one contract was replaced by an edited one with true digests."""
    made = tmp_path / "deployed"
    shutil.copytree(GOLDEN / "deployment", made)
    (made / name).write_bytes(relaid(resealed(json.loads((made / name).read_bytes()) | changes)))
    with pytest.raises(ContractError) as refused:
        verify(made, SilentVoice())
    return refused.value


def relaid(document: dict[str, object]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


@pytest.mark.parametrize("change", [{"step": 1}, {"toy": True}, {"inputs": []}, {"mode": "prefill"}], ids=str)
def test_a_part_of_another_build_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    assert Path(replay(tmp_path, export.FILE, **change).violations[0].file).name == export.FILE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enumerated_T", [4]), ("package_digest", "0" * 64), ("export_digest", "0" * 64), ("inputs", []),
        ("capabilities", {"latent_reasoning": True, "halt_head": False, "code_mode": True}),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_follow_from_its_parts(tmp_path: Path, field: str, value: object) -> None:
    assert replay(tmp_path, deployment.FILE, **{field: value})


def test_a_toy_part_cannot_be_washed_out(tmp_path: Path) -> None:
    """The export says that it is a toy; a manifest that names it truly, and says that it is none, is refused."""
    made = tmp_path / "deployed"
    shutil.copytree(GOLDEN / "deployment", made)
    part = resealed(json.loads((made / export.FILE).read_bytes()) | {"toy": True})
    (made / export.FILE).write_bytes(relaid(part))
    manifest = json.loads((made / deployment.FILE).read_bytes())
    inputs = [{"kind": "export", "digest": part["digest"]}]
    (made / deployment.FILE).write_bytes(relaid(resealed(manifest | {"export_digest": part["digest"], "inputs": inputs})))
    with pytest.raises(ContractError) as refused:
        verify(made, SilentVoice())
    assert [violation.where for violation in refused.value.violations] == ["/toy"]
