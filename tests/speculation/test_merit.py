"""Who is never right rests, soon if it sends much; who is right now and then does not."""

from __future__ import annotations

import pytest

from paceline.speculation.merit import ENOUGH_NODES, ENOUGH_STEPS, FIRST_REST, LONGEST_REST, MANY_STEPS, Merit

NODES = 32
assert ENOUGH_NODES == NODES * ENOUGH_STEPS


def drafts(merit: Merit, every: int, steps: int = 2000, nodes: int = NODES) -> int:
    """One node accepted in so many steps, none if 0; the steps until it rests."""
    for step in range(1, steps + 1):
        merit.sent(nodes)
        merit.step(int(every > 0 and step % every == 0))
        if merit.rests:
            return step
    return steps


def rest(merit: Merit) -> int:
    turns = 0
    while merit.rests:
        merit.turn()
        turns += 1
    return turns


def test_who_is_never_right_rests_longer_each_time() -> None:
    merit = Merit()
    for count in range(5):
        assert drafts(merit, every=0) == ENOUGH_STEPS
        assert rest(merit) == min(FIRST_REST * 4**count, LONGEST_REST)


@pytest.mark.parametrize("nodes", [1, NODES, 160])
def test_who_is_right_now_and_then_goes_on(nodes: int) -> None:
    """Be the step so long that it sends a whole tree in the meantime."""
    assert drafts(Merit(), every=10, nodes=nodes) == 2000


def test_who_says_little_or_nothing_is_given_more_time() -> None:
    assert drafts(Merit(), every=0, nodes=0) == MANY_STEPS


def test_once_it_is_right_the_rests_are_short_again() -> None:
    merit = Merit()
    for _ in range(3):
        drafts(merit, every=0)
        rest(merit)
    drafts(merit, every=4, steps=ENOUGH_STEPS)
    drafts(merit, every=0)
    assert rest(merit) == FIRST_REST
