"""Who goes on sending malformed entries is kept out, longer each time; who sends one is not."""

from __future__ import annotations

import logging

import pytest

from verifier_service.quarantine import LONGEST_SECONDS, OFFENCES, SHORTEST_SECONDS, WITHIN_SECONDS, Quarantine


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quarantine(clock: Clock) -> Quarantine:
    return Quarantine(clock)


def offend(quarantine: Quarantine, times: int = OFFENCES, name: str = "d") -> list[bool]:
    return [quarantine.offence(name, "token_ids = 64: expected less") for _ in range(times)]


def test_the_last_of_many_in_a_short_time_is_one_too_many(quarantine: Quarantine) -> None:
    assert offend(quarantine) == [*[False] * (OFFENCES - 1), True]
    assert quarantine.refusal("d") == "quarantined for 5.0 s: token_ids = 64: expected less"
    assert quarantine.refusal("e") == ""


def test_the_same_number_in_a_longer_time_is_not(quarantine: Quarantine, clock: Clock) -> None:
    for _ in range(3 * OFFENCES):
        assert offend(quarantine, 1) == [False]
        clock.now += 1.01 * WITHIN_SECONDS / (OFFENCES - 1)


def test_terms_double_up_to_the_longest_and_good_conduct_makes_up_for_them(
    quarantine: Quarantine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    terms = []
    with caplog.at_level(logging.WARNING):
        for _ in range(9):
            assert offend(quarantine)[-1]
            began = clock.now
            while quarantine.refusal("d"):
                clock.now += 0.5
            terms.append(clock.now - began)
    assert terms == [min(SHORTEST_SECONDS * 2**count, LONGEST_SECONDS) for count in range(9)]
    assert len(caplog.records) == len(terms), "a line for each term, not for each offence"
    clock.now += LONGEST_SECONDS
    offend(quarantine)
    assert quarantine.refusal("d").startswith("quarantined for 5.0 s")


def test_what_comes_during_a_term_does_not_make_it_longer(quarantine: Quarantine, clock: Clock) -> None:
    offend(quarantine)
    clock.now += SHORTEST_SECONDS / 2
    assert not any(offend(quarantine, 5 * OFFENCES))
    assert quarantine.refusal("d").startswith("quarantined for 2.5 s")


def test_no_more_drafters_are_remembered_than_there_is_room_for(quarantine: Quarantine) -> None:
    for index in range(3000):
        quarantine.offence(f"d{index}", "bad")
    assert len(quarantine._suspects) == 1024
