"""A deployment that its evaluation refuses is not placed, by whatever command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.shell import interlock

pytestmark = pytest.mark.e2e

RECIPE = """
output = "made"
outputs = ["deployed", "evaluation", "checkpoint", "dataset"]
toy = true

[data]
task = "permutation-automaton"
parameters = { train = 400, validation = 40, test = 40, depths = "1..3" }

[train]
steps = 3
batch = 16

[train.scratch]
d_model = 64
n_heads = 2
n_kv_heads = 1
d_head = 32
d_ff = 64
vocab_size = 320
halt_head = true

[train.latent]
step_tokens = 3

[export]
lengths = [32]
primary = 32

[deploy]
latent_mode = true

[evaluate]
items = 20
backend = "torchscript"
max_new_tokens = 12
"""


def test_what_was_not_learnt_is_not_deployed(tmp_path: Path) -> None:
    """Three steps teach nothing: every part is made, and asked, and only the evaluation's gate ends it."""
    (tmp_path / "mine.toml").write_text(RECIPE)
    environ = {"INTERLOCK_HOME": str(tmp_path / ".interlock")}
    for words in ((), ("--only", "deploy")):
        said = interlock("build", "mine.toml", *words, "--set", "evaluate.gates.latent_accuracy=0.9", "--json", cwd=tmp_path, environ=environ)
        assert said.code == 6 and "latent_accuracy: 0 of 20" in said.err and "missed 0-test-" in said.err, said.err
        states = {step["step"]: step["state"] for step in json.loads(said.out)["steps"]}
        assert states["deploy"] in ("made", "kept") and states["eval"] == "rejected"
        assert not (tmp_path / "made" / "deployed").exists()
    done = interlock("build", "mine.toml", "--set", "evaluate.gates={}", "--json", cwd=tmp_path, environ=environ)
    assert done.code == 0, done.err
    states = {step["step"]: step["state"] for step in json.loads(done.out)["steps"]}
    assert states == {"data": "kept", "train": "kept", "export": "kept", "convert": "kept", "deploy": "kept", "eval": "made"}
    summary = json.loads((tmp_path / "made" / "evaluation" / "summary.json").read_text())
    assert summary["items"] == 20 and summary["means"]["latent_accuracy"] < 0.9
    assert (tmp_path / "made" / "evaluation" / "report.html").exists()
    assert json.loads((tmp_path / "made" / "deployed" / "deployment_manifest.json").read_text())["capabilities"]["latent_reasoning"] is True
    # Its package and its checkpoint, along the same rows: the fp16 of the one is all that lies between them.
    (tmp_path / "read.toml").write_text(
        'description = "the rows, read"\nasks = "reading"\nscorers = ["reading"]\nitems = 20\n[gates.kl_mean]\nat_most = 1e-3\n'
    )
    words = ("eval", "made/deployed", "read.toml", "--dataset", "made/dataset", "--against", "made/checkpoint", "--toy", "--out", "read", "--json")
    read = interlock(*words, cwd=tmp_path, environ=environ)
    assert read.code == 0, read.err
    told = json.loads(read.out)["summary"]
    assert told["asked"]["against_backend"] == "eager" and 0 < told["figures"]["kl_max"]["measured"] < 1e-3
    assert told["figures"]["perplexity_ratio"]["measured"] == pytest.approx(1, abs=1e-2) and told["figures"]["perplexity"]["measured"] > 2
