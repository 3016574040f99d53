"""Advice follows load and price, and leaves alone what is well."""

from __future__ import annotations

import pytest

from paceline.cluster.advice import DrafterLoad, VerifierLoad, drafters_wanted, verifiers_wanted


@pytest.mark.parametrize(
    ("sessions", "waiting", "wanted"),
    [(120, 0, 2), (120, 90, 3), (190, 400, 8), (100, 0, 2), (40, 0, 1), (51, 0, 2), (0, 0, 1)],
)
def test_verifiers_follow_queue_and_occupancy(sessions: int, waiting: int, wanted: int) -> None:
    assert verifiers_wanted(VerifierLoad(2, sessions, 200, waiting)) == wanted


def test_verifiers_do_not_swing() -> None:
    """Whatever the load, what was advised is advised again."""
    for demand in range(0, 1000, 7):
        replicas = 3
        for _ in range(3):
            before, replicas = replicas, verifiers_wanted(VerifierLoad(replicas, demand, 100.0 * replicas))
        assert replicas == before


def test_nothing_is_advised_of_verifiers_that_say_nothing() -> None:
    assert verifiers_wanted(VerifierLoad(3, 0, 0)) == 3


def test_drafters_that_nobody_waits_for_are_too_many() -> None:
    assert drafters_wanted(DrafterLoad(4, 0.0, 0.75, 6.8)) == 2


def test_starved_verifiers_get_drafters_where_those_are_cheap_beside_them() -> None:
    assert drafters_wanted(DrafterLoad(2, 0.4, 0.75, 27.2)) == 4
    assert drafters_wanted(DrafterLoad(2, 0.4, 6.8, 6.8)) == 1


def test_without_prices_time_alone_counts() -> None:
    assert drafters_wanted(DrafterLoad(2, 0.3, 0.0, 0.0)) == 4
    assert drafters_wanted(DrafterLoad(2, 0.0, 0.0, 0.0)) == 1


def test_more_starvation_never_means_fewer_drafters() -> None:
    wanted = [drafters_wanted(DrafterLoad(3, starved / 50, 0.75, 6.8)) for starved in range(51)]
    assert wanted == sorted(wanted)
