"""Flips: where signs change, and nowhere else."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.experiments.report.flips import course, log_ratio

RATIOS = st.sampled_from([-2.0, -0.5, 0.0, 0.5, 3.0, math.inf, -math.inf, math.nan])


@given(st.lists(RATIOS, max_size=9))
def test_there_is_one_for_each_change_of_sign_between_its_neighbours(ratios: list[float]) -> None:
    places = [float(2**index) for index in range(len(ratios))]
    found = course(places, ratios)
    decided = [(place, ratio) for place, ratio in zip(places, ratios, strict=True) if ratio and not math.isnan(ratio)]
    changes = [
        (one[0], other[0], other[1] < 0) for one, other in itertools.pairwise(decided) if (one[1] < 0) != (other[1] < 0)
    ]
    assert [(flip.after, flip.before, flip.to_cheaper) for flip in found.flips] == changes
    assert all(flip.after < flip.at < flip.before for flip in found.flips if not math.isnan(flip.at))
    assert found.left_out == tuple(place for place, ratio in zip(places, ratios, strict=True) if math.isnan(ratio))


def test_between_two_that_were_run_it_is_where_a_straight_line_says() -> None:
    (flip,) = course([1.0, 2.0, 4.0], [-3.0, -1.0, 3.0]).flips
    assert flip.at == pytest.approx(2.5)
    (flip,) = course([1.0, 2.0, 8.0], [-3.0, -1.0, 1.0], wide=True).flips
    assert flip.at == pytest.approx(4.0)


def test_in_the_middle_of_where_both_cost_the_same() -> None:
    (flip,) = course([1.0, 2.0, 4.0, 5.0], [-1.0, 0.0, 0.0, 1.0]).flips
    assert flip.at == pytest.approx(3.0)


def test_what_touches_and_turns_back_is_none() -> None:
    assert course([1.0, 2.0, 3.0], [1.0, 0.0, 1.0]).flips == ()


def test_where_one_side_has_no_goodput_the_place_is_not_known() -> None:
    (flip,) = course([1.0, 2.0], [-1.0, math.inf]).flips
    assert math.isnan(flip.at)


@pytest.mark.parametrize(
    ("cost", "rival", "expected"),
    [
        (2.0, 2.0, 0.0),
        (math.inf, 1.0, math.inf),
        (1.0, math.inf, -math.inf),
        (0.0, 1.0, -math.inf),
        (1.0, 0.0, math.inf),
    ],
)
def test_a_ratio_of_extremes_has_a_sign(cost: float, rival: float, expected: float) -> None:
    assert log_ratio(cost, rival) == expected
    assert math.isnan(log_ratio(math.inf, math.inf))
