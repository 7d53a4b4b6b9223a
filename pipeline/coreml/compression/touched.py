"""Which weights of a student may be stored in another form than fp16.

Here: one rule. Not here: which form each takes (recipes.py, assignment.py), finding them in a package (rewrite.py).
"""

from __future__ import annotations

from torch import nn

from runtime.student.model import Student

# Below this a scale and its operation cost more than they save; coremltools' own threshold.
MIN_ELEMENTS = 2048


def matrices(student: Student) -> dict[str, nn.Parameter]:
    """fp32 [N, K] of at least MIN_ELEMENTS, by name; a tied one once."""
    return {name: one for name, one in student.named_parameters() if one.dim() == 2 and one.numel() >= MIN_ELEMENTS}
