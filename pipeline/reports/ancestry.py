"""A lineage as a tree of lines, and as a Mermaid diagram.

Here: both texts. Not here: the artifacts (document.py), the page (page.py), finding them (pipeline/lineage.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from interlock.voice import human, plain
from pipeline.reports.document import Artifact, Candidate, counted, gate_text

PLACES = {
    "here": "this directory,",
    "embedded": "contract embedded in",
    "beside": "beside it, in",
    "stored": "in the store,",
    "absent": "not at hand: known by its digest only",
}


@dataclass(frozen=True)
class Branch:
    """An artifact in the tree, with what it was made from. again: it stands above already, with its own inputs."""

    artifact: Artifact
    inputs: tuple[Branch, ...]
    again: bool = False


def tree_of(artifacts: Sequence[Artifact]) -> Branch:
    """The first artifact and its inputs; the longest way back first, so that the chain reads from top to bottom."""
    by_digest = {artifact.digest: artifact for artifact in artifacts}
    seen: set[str] = set()
    depth: dict[str, int] = {}
    for artifact in reversed(artifacts):  # each stands before what it was made from
        depth[artifact.digest] = 1 + max((depth[ref.digest] for ref in artifact.inputs), default=0)

    def branch(artifact: Artifact) -> Branch:
        if artifact.digest in seen:
            return Branch(artifact, (), again=True)
        seen.add(artifact.digest)
        inputs = sorted((by_digest[ref.digest] for ref in artifact.inputs), key=lambda item: depth[item.digest], reverse=True)
        return Branch(artifact, tuple(map(branch, inputs)))

    return branch(artifacts[0])


def where(artifact: Artifact) -> str:
    """Where an artifact lies, in words."""
    if artifact.kind == "source":
        return "made from a seed" if artifact.source and artifact.source.form == "random" else "what was imported"
    return f"{PLACES[artifact.place]} {artifact.path}" if artifact.path else PLACES[artifact.place]


def details(artifact: Artifact) -> list[tuple[str, str]]:
    """What the tree says below an artifact's name."""
    rows = [("sha256" if artifact.kind == "source" else "digest", artifact.digest)]
    if artifact.source is not None:
        rows.append(("from", f"{artifact.source.form} {artifact.source.name}"))
    rows.append(("where", where(artifact)))
    if artifact.problem:
        rows.append(("problem", artifact.problem))
    if artifact.stage and artifact.environment:
        made = artifact.environment
        rows += [
            ("made by", f"stage {artifact.stage}, interlock {artifact.project_version}, code {(artifact.source_digest or '')[:16]}"),
            ("in", f"environment {made.name}: Python {made.python}, {made.platform}, lock {made.lock_digest[:16]}"),
            ("size", f"{counted(len(artifact.files), 'file')}, {human(artifact.bytes, 'B')}"),
        ]
    if artifact.gate:
        rows.append(("gate", gate_text(artifact.gate)))
    rows += [("asked", f"gate {passed.gate} of {passed.distribution}, {len(passed.findings)} findings") for passed in artifact.gates_passed]
    return rows


class Line(NamedTuple):
    """A line of the tree: its guides, then the kind of an artifact and its digest, or a name and its value. Texts of files are escaped."""

    guides: str
    name: str
    value: str
    heading: bool


def lines(branch: Branch, *, ascii_only: bool) -> Iterator[Line]:
    yield from _lines(branch, "", "", ("|-- ", "`-- ", "|   ") if ascii_only else ("├── ", "└── ", "│   "))


def _lines(branch: Branch, first: str, rest: str, guides: tuple[str, str, str]) -> Iterator[Line]:
    artifact = branch.artifact
    tee, corner, bar = guides
    note = ", as above" if branch.again else ", toy" if artifact.toy else ""
    yield Line(first, artifact.kind, f"{artifact.digest[:12]}{note}", heading=True)
    if branch.again:
        return
    inner = rest + (bar if branch.inputs else "    ")
    for name, value in details(artifact):
        yield Line(inner, f"{name:<8}", plain(value), heading=False)
    for index, child in enumerate(branch.inputs):
        last = index == len(branch.inputs) - 1
        yield from _lines(child, rest + (corner if last else tee), rest + ("    " if last else bar), guides)


def candidate_lines(candidate: Candidate) -> list[tuple[str, str]]:
    """A refused candidate: its folder, then why."""
    if candidate.rejection is None:
        return [("rejected", f"{candidate.path}"), ("problem", f"its evidence cannot be read: {candidate.problem}")]
    findings, compression = candidate.rejection.findings, candidate.rejection.compression
    more = [("", f"and {len(findings) - 3} more findings")] if len(findings) > 3 else []
    return [
        ("rejected", f"{candidate.path}"),
        *([("method", compression.method)] if compression else [("kind", candidate.rejection.kind)]),
        *(("finding", finding) for finding in findings[:3]),
        *more,
        ("again", candidate.rejection.command or "the same build"),
    ]


def mermaid(artifacts: Sequence[Artifact], rejected: Sequence[Candidate]) -> str:
    """A flowchart for Markdown: arrows from what was there to what was made of it, refused candidates dashed."""
    names = {artifact.digest: f"a{index}" for index, artifact in enumerate(artifacts)}
    text = ["flowchart TB"]
    for artifact in artifacts:
        label = [artifact.kind, artifact.digest[:12]]
        label += [artifact.source.name] if artifact.source else []
        label += [gate_text(artifact.gate)] if artifact.gate else []
        text.append(f'  {names[artifact.digest]}["{"<br/>".join(map(_quoted, label))}"]')
    text += [f"  {names[ref.digest]} --> {names[artifact.digest]}" for artifact in artifacts for ref in artifact.inputs]
    for index, candidate in enumerate(rejected):
        text.append(f'  r{index}["rejected<br/>{_quoted(candidate.path.rsplit("/", 1)[-1])}"]:::rejected')
        concerns = candidate.rejection.concerns if candidate.rejection else set()
        text += [f"  {name} -.-> r{index}" for digest, name in names.items() if digest in concerns]
    text.append("  classDef rejected stroke-dasharray: 4 3")
    return "\n".join(text) + "\n"


def _quoted(text: str) -> str:
    """Mermaid reads HTML in labels, and `#` begins an entity there."""
    return "".join(char if char.isalnum() or char in " .,:_+-()" else f"#{ord(char)};" for char in plain(text))
