"""A report or a lineage as one self-contained page: no network, no script, readable in light, dark, on paper and on a telephone.

Here: filling the templates (templates/). Not here: what is said (document.py), geometry of figures (plots.py).
Every text passes `interlock.voice.plain` and then HTML escaping. Equal documents give equal bytes: no time or host is in a page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from interlock import __version__
from interlock.voice import human, plain
from pipeline.reports import plots
from pipeline.reports.ancestry import where
from pipeline.reports.charts import charts
from pipeline.reports.document import Artifact, Candidate, Document, counted, gate_text
from pipeline.reports.training import mean, percent, training_rows

TEMPLATES = Path(__file__).parent / "templates"
STATES = {"verified": "verified", "toy": "verified, toy", "broken": "not what its contract says"}


def report_page(document: Document) -> str:
    """The whole report."""
    root = document.root
    return render(
        "report.html.j2",
        document=document,
        artifacts=document.artifacts,
        rejected=document.rejected,
        title=f"{_name(document.directory)}: {root.kind}, {STATES[document.verdict.state]}",
        name=_name(document.directory),
        state=STATES[document.verdict.state],
    )


def lineage_page(directory: str, artifacts: Sequence[Artifact], rejected: Sequence[Candidate]) -> str:
    """The lineage alone."""
    name = _name(directory)
    return render("lineage.html.j2", artifacts=artifacts, rejected=rejected, title=f"Lineage of {name}", name=name)


def _name(directory: str) -> str:
    return Path(directory).absolute().name


def render(template: str, **values: Any) -> str:
    """A page of a template. Every text is escaped; `values` are what the template names."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_safe, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(
        size=lambda count: human(count, "B"),
        figure=_figure,
        gate_text=gate_text,
        where=where,
        db=lambda value: _figure(value, ".1f"),
        kl=lambda value: _figure(value, ".1e"),
        tojson_plain=lambda value: json.dumps(value, ensure_ascii=False),
        anchor=lambda text: re.sub(r"[^\w-]", "-", str(text)),
    )
    made.globals.update(plots=plots, charts=charts, training_rows=training_rows, percent=percent, mean=mean, counted=counted, version=__version__)
    return made.get_template(template).render(**values)


def _safe(value: Any) -> Any:
    """What every `{{ }}` prints: text of files cannot reorder or hide what stands around it. Markup comes from our own templates only."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _figure(value: float | int | None, form: str) -> str:
    return "–" if value is None else format(value, form)
