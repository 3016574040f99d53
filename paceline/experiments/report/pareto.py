"""Which configurations no other one beats."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]


def front(points: Sequence[Point]) -> list[int]:
    """Indices of those that no other is as good as in both coordinates and better in one, by the first; less is better.

    Equal points are on it together; infinite ones never are.
    """
    order = sorted(
        (index for index, point in enumerate(points) if all(map(math.isfinite, point))), key=points.__getitem__
    )
    found: list[int] = []
    lowest = math.inf
    for index in order:
        if points[index][1] < lowest or (found and points[index] == points[found[-1]]):
            found.append(index)
            lowest = points[index][1]
    return found
