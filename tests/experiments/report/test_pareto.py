"""A front: what nothing beats, all of it, and nothing else."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from paceline.experiments.report.pareto import Point, front

FEW = st.sampled_from([1.0, 2.0, 3.0, 4.0, math.inf])  # so that there are ties


def beats(one: Point, other: Point) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


@given(st.lists(st.tuples(FEW, FEW), max_size=12))
def test_it_holds_all_points_that_no_other_beats_and_no_others(points: list[Point]) -> None:
    finite = [point for point in points if all(map(math.isfinite, point))]
    best = {
        index
        for index, point in enumerate(points)
        if point in finite and not any(beats(other, point) for other in finite)
    }
    assert set(front(points)) == best


def test_it_goes_from_the_quickest_to_the_cheapest() -> None:
    assert front([(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.0, 3.0), (1.0, math.inf)]) == [1, 2, 0]
