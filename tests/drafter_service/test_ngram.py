"""Repeated text is found at every length, old continuations become a tree, estimates become true."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drafter_service.drafters.ngram import LONGEST, PLACES, NgramDrafter, Repetitions
from tests.drafter_service.growing import commit, grown, opened

tokens = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(tokens, st.integers(0, 60))
def test_matches_are_what_a_search_finds(text: list[int], cut: int) -> None:
    """However the text came in."""
    index = Repetitions()
    index.extend(text[:cut])
    index.extend(text[cut:])
    expected: dict[int, int] = {}
    for length in range(min(LONGEST, len(text)), 0, -1):
        ends = [end for end in range(len(text) - 1, length - 1, -1) if text[end - length : end] == text[-length:]]
        for end in ends[:PLACES]:
            expected.setdefault(end, length)
    assert dict(index.matches()) == expected


def test_several_continuations_become_branches() -> None:
    kind = NgramDrafter()
    session = opened(kind, [1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3])
    first = {path[0] for path in grown(kind, session)}
    assert first == {4, 5}


def test_the_longer_match_counts_more() -> None:
    kind = NgramDrafter()
    session = opened(kind, [1, 2, 3, 7, 0, 5, 2, 3, 8, 0, 1, 2, 3])
    grown(kind, session)
    children = session.tree.root.children
    assert children[7].log_score > children[8].log_score


def test_a_prediction_is_further_corpus_and_no_match_runs_over_its_end() -> None:
    kind = NgramDrafter()
    session = opened(kind, [20, 1, 2], prediction=[5, 1, 2, 6, 7, 8, 20, 1])
    assert (6, 7, 8, 20, 1) in grown(kind, session)
    assert all(-1 not in path for path in grown(kind, session))


def test_estimates_follow_what_comes_true() -> None:
    """Repetitions that never come true are soon not believed."""
    kind = NgramDrafter()
    session = opened(kind, [1, 2, 3, 4] * 3)
    grown(kind, session)
    assert math.exp(session.tree.root.children[1].log_score) > 0.5
    for step in range(200):
        commit(kind, session, [100 + step, 1, 2, 3, 4])
        grown(kind, session)
    assert all(math.exp(child.log_score) < 0.2 for child in session.tree.root.children.values())


def test_it_proposes_once_for_each_root() -> None:
    kind = NgramDrafter()
    session = opened(kind, [1, 2, 1, 2])
    assert kind.growable(session)
    grown(kind, session)
    assert not kind.growable(session)
    commit(kind, session, [1])
    assert kind.growable(session)


@given(tokens, st.integers(1, 3), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_no_node_has_more_children_than_the_width(text: list[int], width: int, more: list[int]) -> None:
    """Also where what was proposed before a verdict is still there after it: a chain stays a chain."""
    kind = NgramDrafter()
    session = opened(kind, text, width=width)
    for token in more:
        grown(kind, session)
        assert all(len(node.children) <= width for node in (session.tree.root, *session.tree.live()))
        commit(kind, session, [token])


@pytest.mark.parametrize("prompt", [[7], [1, 2, 3, 4, 5]])
def test_nothing_known_is_nothing_said(prompt: list[int]) -> None:
    kind = NgramDrafter()
    assert grown(kind, opened(kind, prompt)) == set()
