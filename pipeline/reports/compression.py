"""How a package's weights are stored, in words and as a frontier.

Here: one line, what was left in fp16 and why, the table of a search. Not here: the rest of a package's report (text.py).
"""

from __future__ import annotations

import math
from collections import Counter

from rich.box import Box
from rich.table import Table
from rich.text import Text

from interlock.contracts.package import Compression
from interlock.voice import human, plain

# Cells of the bar that draws the divergence of each point, on a logarithmic scale.
BAR = 24


def compression_rows(compression: Compression) -> list[tuple[str, str]]:
    """Facts for the package's grid; none for an uncompressed one."""
    if compression.method == "none":
        return []
    weights = compression.weights
    forms = Counter(weight.form for weight in weights.values())
    elements = {name: math.prod(weight.shape) for name, weight in weights.items()}
    bits = sum(weight.bits * elements[name] for name, weight in weights.items()) / max(1, sum(elements.values()))
    worst = min(weights, key=lambda name: weights[name].snr_db)
    rows = [
        ("compression", f"{compression.method}: {', '.join(f'{count} x {form}' for form, count in forms.most_common())}, {bits:.2f} bits an element"),
        ("least faithful", f"{worst}, {weights[worst].form}, {weights[worst].snr_db:g} dB from the checkpoint's"),
    ]
    left = Counter(weight.reason for weight in weights.values() if weight.reason)
    rows += [("left in fp16", f"{count} weights: {reason}") for reason, count in left.most_common()]
    return rows + ([("not in the package", ", ".join(compression.missing))] if compression.missing else [])


def frontier_table(compression: Compression, box: Box) -> Table:
    """Size against divergence, the chosen point marked; bars grow with the logarithm of the divergence."""
    table = Table(box=box, title="frontier: bytes of the weight file against divergence from the checkpoint", title_justify="left")
    for name in ("", "weights", "KL predicted", "KL measured", "", "forms"):
        table.add_column(name, justify="right" if name in ("weights", "KL predicted", "KL measured") else "left")
    logs = [math.log10(max(point.kl_measured if point.kl_measured is not None else point.kl_predicted, 1e-9)) for point in compression.frontier]
    low, high = min(logs), max(logs)
    for point, log in zip(compression.frontier, logs, strict=True):
        cells = 1 + round((BAR - 1) * (log - low) / (high - low)) if high > low else 1
        forms = ", ".join(f"{count} {form}" for form, count in point.forms.items())
        measured = "-" if point.kl_measured is None else f"{point.kl_measured:.1e}"
        mark = "→" if point.chosen else ""
        table.add_row(mark, human(point.weight_bytes, "B"), f"{point.kl_predicted:.1e}", measured, "█" * cells, Text(plain(forms)))
    table.caption = "→ chosen; KL is the mean over positions of the shipped text, by the student with the weights as the forms declare them"
    return table
