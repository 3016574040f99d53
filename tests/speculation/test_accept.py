"""The walk: down while a child carries the target's choice."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from paceline.speculation.accept import Decision, NextToken, walk

# row: 0 root; 1 "a" under the root; 2 "b" under the root; 3 "c" under a; 4 "d" under c
TOKENS, PARENTS = (9, 10, 11, 12, 13), (-1, 0, 0, 1, 3)


def decide(choices: Sequence[int], stop: Sequence[int] = (), limit: int = 100) -> Decision:
    return walk(TOKENS, PARENTS, lambda row: choices[row], stop, limit)


def test_no_child_matches() -> None:
    assert decide([99, 0, 0, 0, 0]) == Decision((), (99,), NextToken.RECOVERED, stopped=False)


def test_whole_path_and_bonus() -> None:
    assert decide([10, 12, 0, 13, 50]) == Decision((1, 3, 4), (10, 12, 13, 50), NextToken.BONUS, stopped=False)


def test_path_that_leaves_the_tree() -> None:
    assert decide([10, 77, 0, 0, 0]) == Decision((1,), (10, 77), NextToken.RECOVERED, stopped=False)


def test_second_child() -> None:
    assert decide([11, 0, 12, 0, 0]) == Decision((2,), (11, 12), NextToken.BONUS, stopped=False)


def test_nothing_after_a_stop_token() -> None:
    assert decide([10, 12, 0, 13, 50], stop=[12]) == Decision((1,), (10, 12), NextToken.BONUS, stopped=True)


def test_never_beyond_the_limit() -> None:
    assert decide([10, 12, 0, 13, 50], limit=2).token_ids == (10, 12)
    assert decide([10, 12, 0, 13, 50], limit=1) == Decision((), (10,), NextToken.BONUS, stopped=False)


def test_the_target_is_asked_only_along_the_accepted_path() -> None:
    asked: list[int] = []

    def choice(row: int) -> int:
        asked.append(row)
        return {0: 10, 1: 12, 3: 1}[row]

    walk(TOKENS, PARENTS, choice, (), 100)
    assert asked == [0, 1, 3]


@given(data=st.data(), rows=st.integers(1, 12))
def test_the_walk_ends_whatever_the_parents_say(data: st.DataObject, rows: int) -> None:
    """A bug that servers shipped: a tree with a cycle hung the walk. Every row has one parent, so no cycle can be come
    upon from the root."""
    tokens = data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    parents = data.draw(st.lists(st.integers(-1, rows - 1), min_size=rows, max_size=rows))
    choices = data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    parents[0] = -1
    decision = walk(tokens, parents, lambda row: choices[row], (), limit=10**9)
    assert len(set(decision.accepted_rows)) == len(decision.accepted_rows) <= rows
