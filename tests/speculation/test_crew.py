"""Who drafts: one of each group, whoever pays and keeps up, and an opinion does not last for ever."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from paceline.speculation.crew import PAYS_SECONDS, Drafter, Experience, Situation
from paceline.speculation.policy import Mode

ALONE, CROWDED = Situation(Mode.OVERLAPPED, 1), Situation(Mode.OVERLAPPED, 16)
A, B = Drafter("a", "model", 0, 8), Drafter("b", "model", 0, 8)
LOOKUP = Drafter("lookup", "ngram", 3, 8)


def names(drafters: list[Drafter]) -> list[str]:
    return [drafter.drafter_id for drafter in drafters]


@given(st.lists(st.builds(Drafter, st.text(max_size=3), st.sampled_from("xyz"), st.integers(0, 4), st.integers(1, 4))))
def test_one_of_each_group_that_has_room_and_it_is_the_least_busy(drafters: list[Drafter]) -> None:
    chosen = Experience().choose(0.0, drafters, ALONE)
    free = [drafter for drafter in drafters if drafter.sessions < drafter.max_sessions]
    assert sorted({drafter.group for drafter in free}) == [drafter.group for drafter in chosen]
    for drafter in chosen:
        assert drafter.sessions == min(d.sessions for d in free if d.group == drafter.group)


def test_a_group_that_has_its_drafter_takes_no_second() -> None:
    assert names(Experience().choose(0.0, [A, B, LOOKUP], ALONE, taken={"model"})) == ["lookup"]


def test_who_falls_behind_is_replaced_while_a_better_one_is_free() -> None:
    experience = Experience()
    experience.report(0.0, A, ALONE, 100, 150, drafting=True)
    assert experience.replacement(0.0, A, [B], ALONE) is None
    for now in range(3):
        experience.report(now, A, ALONE, 20, 0, drafting=True)
    assert experience.replacement(3.0, A, [B, LOOKUP], ALONE) == B
    assert experience.replacement(3.0, A, [LOOKUP], ALONE) is None, "nobody else guesses like it"
    assert experience.replacement(3.0, A, [replace(B, sessions=8)], ALONE) is None, "the other one is full"
    assert names(experience.choose(3.0, [A, B], ALONE)) == ["b"]


def test_a_weak_group_is_not_a_slow_one() -> None:
    """Nobody is behind where everybody brings little."""
    experience = Experience()
    for _ in range(50):
        experience.report(0.0, A, ALONE, 100, 4, drafting=True)
    assert experience.replacement(0.0, A, [B], ALONE) is None


def test_a_slow_one_is_better_than_none_and_modes_are_not_compared() -> None:
    experience = Experience()
    experience.report(0.0, A, Situation(Mode.LOCKSTEP, 1), 100, 500, drafting=True)
    experience.report(0.0, A, ALONE, 100, 80, drafting=True)
    assert not experience.behind(0.0, A, ALONE), "a chain of five in lockstep says nothing about overlapped"
    for now in range(8):
        experience.report(now, A, ALONE, 20, 0, drafting=True)
    assert experience.behind(8.0, A, ALONE)
    assert experience.choose(8.0, [A], ALONE) == [A]


def test_what_does_not_pay_is_left_out_only_there_and_only_for_a_while() -> None:
    experience = Experience()
    experience.report(0.0, LOOKUP, CROWDED, 0, 0, drafting=False)
    assert experience.choose(1.0, [LOOKUP], CROWDED) == []
    assert experience.choose(1.0, [LOOKUP], ALONE) == [LOOKUP]
    assert experience.choose(1.0, [LOOKUP], Situation(Mode.LOCKSTEP, 16)) == [LOOKUP]
    assert experience.choose(PAYS_SECONDS + 1, [LOOKUP], CROWDED) == [LOOKUP]
