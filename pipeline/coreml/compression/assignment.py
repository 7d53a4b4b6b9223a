"""Which weight takes which form: the smallest package for a divergence, or the smallest divergence for a size.

Here: the frontier between bytes and predicted divergence, and the search on it by measurement. Not here: predictions and measurements
(sensitivity.py), forms.
Divergences of single weights are added: to second order in independent errors they are. Then the best choices for every size are those that a
price per byte decides for each weight by itself (Everett 1963, Generalized Lagrange multiplier method), and one pass over the steps between a
weight's useful options, cheapest divergence per byte first, visits all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """One form of one weight: its bytes in the weight file, and the mean KL in nats that it is predicted to cause alone."""

    label: str
    size_bytes: int
    kl: float


@dataclass(frozen=True)
class Point:
    """A choice for every weight (an index into its options), their bytes and predicted mean KL together."""

    choice: Mapping[str, int]
    size_bytes: int
    kl: float


def frontier(options: Mapping[str, Sequence[Option]]) -> list[Point]:
    """Every point of the lower convex hull, from the fewest bytes up; each differs from the one before in one weight."""
    useful = {name: _hull(list_of) for name, list_of in options.items()}
    steps = sorted(
        (_price(list_of[before], list_of[after]), name, at)
        for name, list_of in options.items()
        for at, (before, after) in enumerate(zip(useful[name], useful[name][1:], strict=False))
    )
    choice = {name: hull[0] for name, hull in useful.items()}
    points = [_point(options, choice)]
    for _, name, at in steps:
        # a weight's own steps come in order: prices rise along a hull
        choice = {**choice, name: useful[name][at + 1]}
        points.append(_moved(points[-1], options[name][useful[name][at]], options[name][useful[name][at + 1]], choice))
    return points


def smallest_within(points: Sequence[Point], good: Callable[[Point], bool]) -> Point | None:
    """The first point that `good` accepts, found by bisection: measured divergence falls along a frontier. None if even the last is not good."""
    if not good(points[-1]):
        return None
    low, high = 0, len(points) - 1
    while low < high:
        middle = (low + high) // 2
        if good(points[middle]):
            high = middle
        else:
            low = middle + 1
    return points[high]


def largest_within(points: Sequence[Point], size_bytes: int) -> Point | None:
    """The last point of at most that many bytes, None if there is none."""
    return next((point for point in reversed(points) if point.size_bytes <= size_bytes), None)


def _hull(options: Sequence[Option]) -> list[int]:
    """Indices of the lower convex hull of (bytes, kl), bytes rising and kl falling. At least one."""
    order = sorted(range(len(options)), key=lambda index: (options[index].size_bytes, options[index].kl))
    hull: list[int] = []
    for index in order:
        if hull and options[index].kl >= options[hull[-1]].kl:
            continue
        while len(hull) > 1 and _price(options[hull[-2]], options[hull[-1]]) >= _price(options[hull[-1]], options[index]):
            hull.pop()
        hull.append(index)
    return hull


def _price(before: Option, after: Option) -> float:
    """Divergence won per byte, negative: the most first when sorted."""
    return (after.kl - before.kl) / max(1, after.size_bytes - before.size_bytes)


def _point(options: Mapping[str, Sequence[Option]], choice: Mapping[str, int]) -> Point:
    chosen = [options[name][index] for name, index in choice.items()]
    return Point(dict(choice), sum(option.size_bytes for option in chosen), sum(option.kl for option in chosen))


def _moved(point: Point, before: Option, after: Option, choice: Mapping[str, int]) -> Point:
    return Point(choice, point.size_bytes + after.size_bytes - before.size_bytes, point.kl + after.kl - before.kl)
