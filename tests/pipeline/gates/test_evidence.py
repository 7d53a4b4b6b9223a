"""Figures do not depend on how rows arrive, and a flip is decided by the error that the threshold allows."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


def pooled(expected: object, found: object, parts: int) -> object:
    from pipeline.gates.evidence import Pool

    pool = Pool("decode", 1, 40.0)
    for one, other in zip(torch.chunk(expected, parts), torch.chunk(found, parts), strict=True):
        pool.add({"logits": one}, {"logits": other})
    (evidence,) = pool.evidence()
    return evidence


def test_rows_that_come_one_by_one_give_the_figures_of_all_at_once() -> None:
    from runtime.numerics import compare_logits

    generator = torch.Generator().manual_seed(0)
    expected = 5 * torch.randn(12, 33, generator=generator)
    found = expected + 0.01 * torch.randn(12, 33, generator=generator)
    whole = compare_logits(expected, found)
    assert pooled(expected, found, 12) == pooled(expected, found, 1)
    assert pooled(expected, found, 5).psnr_db == pytest.approx(whole.psnr_db, abs=0.005)
    worst = min(compare_logits(one, other).psnr_db for one, other in zip(expected, found, strict=True))
    assert pooled(expected, found, 5).worst_db == pytest.approx(worst, abs=0.005)


@pytest.mark.parametrize(("margin", "decided"), [(0.19, 0), (0.21, 1)])
def test_a_flip_beyond_what_the_threshold_allows_is_decided(margin: float, decided: int) -> None:
    """Peak 10 and 40 dB allow an error of 0.1 on each of the two entries."""
    expected = torch.tensor([[10.0, 10.0 - margin, 0.0]])
    evidence = pooled(expected, torch.tensor([[10.0 - margin, 10.0, 0.0]]), 1)
    assert (evidence.flips, evidence.decided_flips) == (1, decided)


def test_a_value_that_is_not_finite_has_no_figures() -> None:
    evidence = pooled(torch.ones(2, 3), torch.tensor([[1.0, torch.nan, 1.0], [1.0, 1.0, 1.0]]), 2)
    assert not evidence.finite and evidence.psnr_db is None and evidence.kl_max is None


def test_the_student_in_parts_is_the_student_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fakes.students import some_ids, tiny_student

    from pipeline.gates import reference
    from runtime.numerics import psnr_db

    student = tiny_student()
    prompt = some_ids(student.arch, 70).tolist()
    monkeypatch.setattr(reference, "PART", 16)
    parts = reference.Reference.of(student, prompt, 100)
    with torch.inference_mode():
        whole = student(torch.tensor([[*prompt, *prompt[:30]]]))
        last = parts.outputs([99])
    assert psnr_db(whole.hidden[0], parts.hidden) >= 110
    assert psnr_db(whole.logits[0, -1:], last["logits"]) >= 110 and psnr_db(whole.halt_logits, last["halt_logits"]) >= 110
