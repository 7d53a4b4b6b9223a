"""`lineage` and `report` as a person runs them: what they print, what they write and where they refuse to."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from fakes.artifacts import write_checkpoint, write_dataset, write_evaluation
from fakes.chains import write_chain, write_rejected
from fakes.shell import interlock, run

from interlock.contracts import checkpoint
from interlock.environments import ROOT
from pipeline.driver import records

SOURCE = "84d1f880c196a7fddfaa7add03872614f504527a3828aefe2b352e99db21fcc9"


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_rejected(folder / "rejected" / "four", write_chain(folder)["package"])
    return folder


def test_lineage_ends_in_the_source(chain: Path) -> None:
    said = interlock("lineage", chain / "deployed")
    assert said.code == 0 and said.err == ""
    lines = said.out.splitlines()
    kinds = [line.replace("|", "").replace("`", "").lstrip(" -").split()[0] for line in lines]
    order = [kinds.index(kind) for kind in ("deployment", "package", "export", "checkpoint", "source")]
    assert order == sorted(order) and any(line.endswith(f"sha256   {SOURCE}") for line in lines)
    assert "as above" in said.out and "rejected" in said.out and "decode, logits: 12.0 dB, at least 50" in said.out


def test_lineage_as_json_and_as_a_flowchart(chain: Path) -> None:
    document = json.loads(interlock("lineage", chain / "deployed", "--json").out)
    assert [item["kind"] for item in document["artifacts"]] == ["deployment", "package", "export", "checkpoint", "source"]
    assert document["artifacts"][-1]["digest"] == SOURCE and document["artifacts"][-1]["source"]["name"] == "latest.pt"
    assert [Path(item["path"]).name for item in document["rejected"]] == ["four"]
    chart = interlock("lineage", chain / "deployed", "--mermaid").out
    assert chart.startswith("flowchart TB") and chart.count(" --> ") == 5 and chart.count(" -.-> ") == 1
    interlock("lineage", chain / "deployed", "--mermaid", "--json").refused(2, "--mermaid")


def test_the_store_of_the_environment_is_searched(chain: Path, tmp_path: Path) -> None:
    digest = json.loads((chain / "checkpoint" / checkpoint.FILE).read_text())["digest"]
    kept = tmp_path / "store" / "objects" / digest[:2] / digest
    kept.parent.mkdir(parents=True)
    (chain / "checkpoint").rename(kept)
    environ = {"INTERLOCK_STORE": str(tmp_path / "store")}
    assert f"in the store, {kept}" in interlock("lineage", chain / "deployed", environ=environ).out
    assert "not at hand" in interlock("lineage", chain / "deployed").out


def test_times_come_from_the_stores_newest_record(tmp_path: Path) -> None:
    digest = write_checkpoint(tmp_path / "checkpoint").digest
    output = {"kind": "checkpoint", "digest": digest}
    notes = (
        {"made_unix_s": 2, "wall_s": 12.5, "peak_rss_bytes": 5000},
        {"made_unix_s": 1, "wall_s": 99.0, "peak_rss_bytes": 1},
        {"made_unix_s": 3, "wall_s": "long"},
        {"made_unix_s": 4, "wall_s": float("inf")},
    )
    for number, note in enumerate(notes):
        key = f"{number:064x}"
        file = tmp_path / "store" / "actions" / key[:2] / f"{key}.json"
        records.save(file, {"key": key, "output": output, **note})
    said = interlock("report", tmp_path / "checkpoint", "--json", environ={"INTERLOCK_STORE": str(tmp_path / "store")})
    assert said.code == 0, said.err
    assert json.loads(said.out)["runs"] == [{"stage": "import", "digest": digest, "wall_s": 12.5, "peak_rss_bytes": 5000}]


def test_a_true_directory_is_verified_and_says_what_was_not_checked(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    said = interlock("report", tmp_path / "checkpoint")
    assert said.code == 0 and "checkpoint: verified" in said.out and "not checked" in said.out and "nothing is signed" in said.out
    assert json.loads(interlock("report", tmp_path / "checkpoint", "--json").out)["verdict"]["state"] == "verified"


def test_data_and_evaluations_have_reports_too(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    write_evaluation(tmp_path / "evaluation")
    assert "train 3 rows, test 2 rows" in interlock("report", tmp_path / "data").out
    said = interlock("report", tmp_path / "evaluation", "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "evaluation smoke, 60 items: pass" in said.out and "0.9398 to 1" in said.out
    assert [text for text in ("smoke", "0.9398 to 1", "60 items cannot show 0.98", "inconclusive") if text not in page] == []


def test_a_damaged_directory_gets_a_report_that_says_so_and_exit_code_3(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    weights = tmp_path / "checkpoint" / checkpoint.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    said = interlock("report", tmp_path / "checkpoint", "--html", tmp_path / "page.html", "--json")
    verdict = json.loads(said.out)["verdict"]
    assert said.code == 3 and verdict["state"] == "broken" and verdict["proven"] == []
    assert [item["file"] for item in verdict["wrong"]] == [str(weights)]
    assert "not what its contract says" in (tmp_path / "page.html").read_text()
    assert "NOT what its contract says" in " ".join(interlock("report", tmp_path / "checkpoint").out.split())


def test_a_contract_that_cannot_be_read_ends_with_its_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / checkpoint.FILE).write_text('{"kind": "checkpoint", "kind": "export"}')
    for verb in ("report", "lineage"):
        interlock(verb, tmp_path / "checkpoint").refused(3, checkpoint.FILE)
        interlock(verb, tmp_path / "nothing").refused(3, "no such directory")


def test_the_page_stands_beside_the_directory_and_never_in_an_artifact(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    for verb in ("report", "lineage"):
        assert interlock(verb, tmp_path / "checkpoint", "--html").code == 0
        assert (tmp_path / f"checkpoint-{verb}.html").read_text().startswith("<!doctype html>")
        interlock(verb, tmp_path / "checkpoint", "--html", tmp_path / "checkpoint" / "page.html").refused(2, "artifact directory")
        interlock(verb, tmp_path / "checkpoint", "--html", tmp_path).refused(2, "is a directory")
    assert interlock("verify", tmp_path / "checkpoint").code == 0


def test_a_page_replaces_a_page_and_nothing_else(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    mine, link, page = tmp_path / "notes.md", tmp_path / "link.html", tmp_path / "page.html"
    mine.write_text("mine")
    link.symlink_to(mine)
    for file in (mine, link):
        interlock("report", tmp_path / "checkpoint", "--html", file).refused(2, "no page of interlock")
    assert mine.read_text() == "mine" and link.is_symlink()
    for verb in ("lineage", "report"):
        assert interlock(verb, tmp_path / "checkpoint", "--html", page).code == 0
        assert f"interlock {verb}" in page.read_text()


def test_a_folder_of_artifacts_means_its_last(chain: Path) -> None:
    said = interlock("lineage", chain, "--json")
    assert Path(json.loads(said.out)["directory"]).name == "deployed"
    shutil.copytree(chain / "checkpoint", chain.parent / "more" / "a")
    write_checkpoint(chain.parent / "more" / "b")
    interlock("lineage", chain.parent / "more").refused(2, "2 finished artifacts", "`a`, `b`")


def test_text_of_a_contract_cannot_steer_a_terminal(tmp_path: Path) -> None:
    text = "\x1b]0;owned\x07\u202e[red]bold[/red]"
    made = write_chain(tmp_path, lambda kind, document: document["source"].update(name=text) if kind == "checkpoint" else None)
    write_rejected(tmp_path / "rejected" / "four", made["package"], (text,))
    for words in (("lineage",), ("lineage", "--mermaid"), ("report",)):
        said = interlock(words[0], tmp_path / "deployed", *words[1:])
        assert said.out and not {"\x1b", "\x07", "\u202e"} & set(said.out + said.err)
    assert "[red]bold[/red]" in interlock("lineage", tmp_path / "deployed").out


def test_a_name_that_is_no_utf8_is_shown_and_breaks_nothing(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/checkpoint-\xff"))
    write_checkpoint(odd)
    environ = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8:strict"}
    for words in (("lineage", odd), ("report", odd), ("diff", odd, odd)):
        for more in ((), ("--json",), ("--html", tmp_path / "page.html")):
            if words[0] != "diff" or more[:1] != ("--html",):
                said = interlock(*words, *more, environ=environ)
                assert said.code == 0, said.err
                assert "checkpoint-\\xff" in said.out.replace("\\\\", "\\")
    assert "checkpoint-\\xff" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_two_clones_of_a_project_give_one_page(tmp_path: Path) -> None:
    pages = []
    for name in ("here", "there"):
        project = tmp_path / name
        write_rejected(project / "models" / "rejected" / "four", write_chain(project / "models")["package"])
        said = run([sys.executable, "-m", "pipeline.cli", "report", "models", "--html", "page.html"], cwd=project, environ={"PYTHONPATH": str(ROOT)})
        assert said.code in (0, 3), said.err
        pages.append((project / "page.html").read_bytes())
    assert pages[0] == pages[1] and str(tmp_path).encode() not in pages[0]
