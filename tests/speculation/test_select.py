"""Nodes of a step: the likeliest of all sessions, as many as pay."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.speculation.cost import FREE, CostCurve, nodes_that_pay
from paceline.speculation.select import Candidate, select_across
from paceline.speculation.tree import DraftTree

CHANCES = st.lists(st.floats(0.01, 0.99), max_size=12)


def chain(*chances: float) -> Candidate:
    """A session whose only path has these chances, each given the one before."""
    tree = DraftTree(0, 0)
    node = tree.root
    for chance in chances:
        node, _ = tree.add(node, 1, math.log(chance))
    return Candidate(tree, budget=99, max_depth=64)


def test_the_likeliest_nodes_of_any_session_come_first() -> None:
    taken = select_across([chain(0.9, 0.9), chain(0.5), chain(0.85, 0.1)], 4, len)
    assert [len(selection.nodes) for selection in taken] == [2, 1, 1]
    assert select_across([chain(0.9), chain(0.8)], 0, len) == select_across([chain(), chain()], 5, len)


@given(st.lists(CHANCES, max_size=6), st.integers(0, 40))
def test_what_is_taken_hangs_together_and_is_the_best(sessions: list[list[float]], most: int) -> None:
    candidates = [chain(*chances) for chances in sessions]
    taken = select_across(candidates, most, len)
    scores = sorted((score for c in candidates for score, _ in c.tree.best(99, 64)), reverse=True)
    assert sorted((s for selection in taken for s in selection.path_scores), reverse=True) == scores[:most]
    for selection in taken:
        assert selection.parents == tuple(range(len(selection.nodes)))


def test_free_rows_are_all_taken_and_dear_ones_none() -> None:
    gains = [0.9, 0.5, 0.1]
    assert nodes_that_pay(gains, 1, FREE) == 3
    assert nodes_that_pay(gains, 1, lambda nodes: 1.0 + nodes) == 0
    assert nodes_that_pay(gains, 1, lambda nodes: 1.0 + 0.3 * nodes) == 2


def test_a_jump_in_the_curve_is_looked_beyond() -> None:
    """16 rows at the price of the second: one more does not pay, all of them do."""
    steps = CostCurve((1, 2, 16), (1.0, 1.6, 1.6))
    assert nodes_that_pay([0.5], 1, lambda nodes: steps(1 + nodes)) == 0
    assert nodes_that_pay([0.5] * 15, 1, lambda nodes: steps(1 + nodes)) == 15


@given(CHANCES, st.integers(1, 20), st.floats(0, 0.2))
def test_no_other_number_emits_more_per_second(chances: list[float], sessions: int, slope: float) -> None:
    gains = sorted(chances, reverse=True)

    def cost(nodes: int) -> float:
        return 1.0 + slope * (sessions + nodes)

    best = nodes_that_pay(gains, sessions, cost)
    rates = [(sessions + sum(gains[:count])) / cost(count) for count in range(len(gains) + 1)]
    assert rates[best] == pytest.approx(max(rates))


def test_more_sessions_leave_less_for_speculation() -> None:
    curve = CostCurve.measured([(1, 1.0), (64, 4.0)])
    taken = [nodes_that_pay([0.3] * 12, n, lambda nodes, n=n: curve(n + nodes, n)) for n in (1, 8, 64)]  # type: ignore[misc]
    assert taken[0] == 12
    assert taken == sorted(taken, reverse=True)


def test_the_curve_is_as_measured_and_never_falls() -> None:
    curve = CostCurve.measured([(4, 2.0), (1, 1.0), (8, 1.5), (16, 4.0)], per_session=0.1)
    assert [curve(rows) for rows in (1, 2, 4, 6, 8, 12, 24)] == pytest.approx([1.0, 4 / 3, 2.0, 2.0, 2.0, 3.0, 6.0])
    assert curve(4, sessions=3) == pytest.approx(2.2)
    assert CostCurve.measured([(1, 3.0)], per_session=-1.0)(50, 9) == 3.0
