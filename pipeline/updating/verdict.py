"""What two trials say about a lock: what changed, and why it may not be written.

Here: the rules. Not here: measuring (trial.py), showing (report.py).
Refused: a torch of one environment that another does not have; a case of the probe that worked and no longer does, or that now computes something
else without an error; an output whose error grew beyond the gate; a toy that is not built. Reported only: operations, speed, better numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from interlock.environments import Environment
from pipeline.compat.results import EXACT_DB, Column, changes
from pipeline.updating.trial import Trial

# Twice the power of the error. Measured under two versions of everything, numbers of one graph differ by less than 0.5 dB.
GATE_DB = 3.0
SHARED = "torch"


@dataclass(frozen=True)
class Refusal:
    """One reason: what it is about, measured, and what would have passed."""

    subject: str
    measured: str
    threshold: str


@dataclass(frozen=True)
class Verdict:
    """refusals: empty where the lock may be written; db: every measured number before and after; operations: of cases, in words."""

    refusals: tuple[Refusal, ...] = ()
    db: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)


def mixed(envs: Mapping[str, Environment]) -> tuple[Refusal, ...]:
    """Packages that environments must have in one version, and have not."""
    versions = {name: env.locked()[SHARED] for name, env in envs.items() if SHARED in env.locked()}
    if len(set(versions.values())) <= 1:
        return ()
    found = ", ".join(f"{version} in `{name}`" for name, version in versions.items())
    return (Refusal(f"environments mix versions of {SHARED}", found, "one version in all, because files pass between them"),)


def judged(before: Trial, after: Trial) -> Verdict:
    """The verdict on what was measured before and after."""
    cases = _cases(before.probe, after.probe) if before.probe and after.probe else ()
    db = dict(_numbers(before, after))
    return Verdict(
        refusals=(*cases, *_toy(before, after), *_losses(db)),
        db=db,
        operations=dict(_operations(before.probe, after.probe)) if before.probe and after.probe else {},
        seconds={name: (value, after.seconds[name]) for name, value in before.seconds.items() if name in after.seconds},
    )


def _cases(before: Column, after: Column) -> Iterator[Refusal]:
    for name, old in before.cells.items():
        new = after.cells[name]
        lost = old.status == "ok" and new.status != "ok"
        # an error is seen by whoever converts; another computation by nobody
        if lost or (new.status == "wrong" and old.status != "wrong"):
            yield Refusal(f"case `{name}`", f"{new.status}: {new.note}".rstrip(": "), f"{old.status}, as before")


def _toy(before: Trial, after: Trial) -> Iterator[Refusal]:
    if after.toy.stopped and not before.toy.stopped:
        yield Refusal("the recipe `random`", after.toy.stopped, "built and verified, as before")
    for name in sorted(before.toy.db.keys() - after.toy.db.keys()):
        if not after.toy.stopped:
            yield Refusal(f"toy `{name}`", "no such output", f"{before.toy.db[name]:.1f} dB, as before")


def _numbers(before: Trial, after: Trial) -> Iterator[tuple[str, tuple[float | None, float | None]]]:
    if before.probe and after.probe:
        for name, old in before.probe.cells.items():
            if old.db is not None or after.probe.cells[name].db is not None:
                yield f"case {name}", (old.db, after.probe.cells[name].db)
    for name in dict.fromkeys([*before.toy.db, *after.toy.db]):
        yield f"toy {name}", (before.toy.db.get(name), after.toy.db.get(name))


def _losses(db: Mapping[str, tuple[float | None, float | None]]) -> Iterator[Refusal]:
    for name, (old, new) in db.items():
        if old is not None and new is not None and min(old, EXACT_DB) - new > GATE_DB:
            yield Refusal(name, f"{new:.1f} dB", f"at least {min(old, EXACT_DB) - GATE_DB:.1f} dB: {old:.1f} before, {GATE_DB:g} dB may be lost")


def _operations(before: Column, after: Column) -> Iterator[tuple[str, str]]:
    for name, old in before.cells.items():
        new = after.cells[name]
        if old.digest and new.digest and old.digest != new.digest:
            yield name, changes(old.operations, new.operations)
