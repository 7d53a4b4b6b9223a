"""Classifiers as plain coremltools saves them: names and numbers as classes, against torch's own argmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes.programs import constant, evaluate, opened
from torch import nn

from interlock.errors import ContractError
from runtime.mil import Runner

X = np.random.default_rng(0).normal(0, 1, (4, 6)).astype(np.float32)


@pytest.mark.export
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("labels", [["bird", "cat", "dog"], [7, 1, 30]])
def test_a_class_is_named(labels: list[str] | list[int]) -> None:
    import coremltools as ct

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1)).eval()
    traced = torch.jit.trace(model, torch.zeros(1, 6))  # type: ignore[no-untyped-call]
    options = {"inputs": [ct.TensorType(name="x", shape=(1, 6))], "compute_precision": ct.precision.FLOAT32}
    runner = Runner(opened(traced, classifier_config=ct.ClassifierConfig(labels), **options))
    for row in X:
        outputs = runner.run("main", {"x": row[None]})
        with torch.no_grad():
            expected = model(torch.from_numpy(row[None]))[0]
        assert outputs["classLabel"] == labels[int(expected.argmax())]
        np.testing.assert_allclose(outputs["classLabel_probs"], expected, rtol=1e-5)


def test_as_many_probabilities_as_classes() -> None:
    assert evaluate("classify", out=("int64", "fp64"), probabilities=X[0], classes=constant(np.arange(6)))[0] == X[0].argmax()
    with pytest.raises(ContractError, match="6 probabilities for 5 classes"):
        evaluate("classify", out=("int64", "fp64"), probabilities=X[0], classes=constant(np.arange(5)))
