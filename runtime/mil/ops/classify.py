"""Classifiers: probabilities to the name of the most probable class. Source of the semantics: coremltools ops/defs/iOS15/classify.py.

The operation stands at the end of a program and nothing uses what it gives. While running, a class is its place among the classes and a dictionary
of probabilities is their tensor: `classes` says what the places mean, and the runner gives names to a host.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from runtime.mil.ops.registry import Names, operation
from runtime.mil.program import Array, Constant, Function


@operation("classify", proof="ops/test_classify.py::test_a_class_is_named")
def classify(probabilities: Tensor, classes: Names) -> tuple[Tensor, Tensor]:
    """probabilities: any shape of as many elements as classes → the place of the greatest, int64 [], and all of them, fp64 [classes]."""
    flat = probabilities.reshape(-1)
    if flat.numel() != len(classes):
        raise ValueError(f"{flat.numel()} probabilities for {len(classes)} classes")
    return torch.argmax(flat), flat.double()


def classes(function: Function) -> dict[str, Array]:
    """By output of the function that is a class: the classes, str or int64 [count]."""
    stored = {step.outputs[0].name: step.attributes["val"] for step in function.block.operations if step.type == "const"}
    found = {}
    for step in function.block.operations:
        if step.type == "classify" and step.outputs[0].name in function.block.outputs:
            given = step.inputs["classes"][0]
            found[step.outputs[0].name] = np.array(names(stored[given] if isinstance(given, str) else given))
    return found


def names(value: Constant) -> tuple[str | int, ...]:
    """The elements of a constant list, or vector, of strings or integers. Raises TypeError for another constant."""
    if not isinstance(value.content, tuple):
        return tuple(int(item) for item in value.array().ravel())
    items: list[str | int] = []
    for item in value.content:
        if isinstance(item, str):
            items.append(item)
        elif isinstance(item.content, tuple) and len(item.content) == 1 and isinstance(item.content[0], str):
            items.append(item.content[0])
        else:
            items.append(int(item.array().item()))
    return tuple(items)
