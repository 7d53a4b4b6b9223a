"""What a report says of an artifact in a few lines."""

from __future__ import annotations

from pathlib import Path

from fakes.artifacts import write_checkpoint

from pipeline.reports.facts import facts_of


def test_a_checkpoint_says_what_its_model_has_beyond_a_llama(tmp_path: Path) -> None:
    plain = write_checkpoint(tmp_path / "made")
    assert dict(facts_of(plain))["model"].endswith(f"vocabulary {plain.arch.vocab_size}")
    adds = {"attention_bias": True, "qk_norm": True, "sliding_window": 24, "no_rope_layers": (0,)}
    other = plain.model_copy(update={"arch": plain.arch.model_copy(update=adds)})
    said = f"biases of query, key and value, norms of query and key, a window of 24 positions, no rotation in 1 of {plain.arch.n_layers} layers"
    assert dict(facts_of(other))["model"] == f"{dict(facts_of(plain))['model']}, {said}"
