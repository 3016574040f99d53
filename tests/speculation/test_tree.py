"""Trees: merged by path, re-rooted by the text, selected best first."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.speculation.select import Candidate, select_alone
from paceline.speculation.tree import DraftTree, Node, State


def grow(tree: DraftTree, *paths: tuple[list[int], float]) -> None:
    for path, score in paths:
        node = tree.root
        for token in path:
            node, _ = tree.add(node, token, score)


def test_equal_paths_merge_and_keep_the_larger_estimate() -> None:
    tree = DraftTree(0, 5)
    first, new_first = tree.add(tree.root, 7, -2.0, "a")
    second, new_second = tree.add(tree.root, 7, -1.0, "b")
    assert first is second
    assert (new_first, new_second, tree.size) == (True, False, 1)
    assert (first.log_score, first.sources, first.position) == (-1.0, {"a": -2.0, "b": -1.0}, 6)


def test_advance_keeps_the_branch_and_kills_the_rest() -> None:
    tree = DraftTree(0, 0)
    grow(tree, ([1, 2, 3], -1.0), ([1, 4], -1.0), ([5, 6], -1.0))
    doomed = tree.root.children[5].children[6]
    survivor = tree.root.children[1].children[2].children[3]
    committed = tree.advance([1, 2])
    assert [node.token_id for node in committed] == [1, 2]
    assert (doomed.state, survivor.state) == (State.DEAD, State.LIVE)
    assert (tree.root.position, tree.size, list(tree.live())) == (2, 1, [survivor])


def test_advance_beyond_the_tree_leaves_it_empty() -> None:
    tree = DraftTree(0, 0)
    grow(tree, ([1, 2], -1.0))
    tree.advance([1, 9, 9])
    assert (tree.root.position, tree.size) == (3, 0)


def test_selection_takes_the_likeliest_paths_in_depth_first_order() -> None:
    tree = DraftTree(0, 0)
    good, _ = tree.add(tree.root, 1, math.log(0.6))
    poor, _ = tree.add(tree.root, 2, math.log(0.3))
    tree.add(good, 3, math.log(0.9))
    tree.add(poor, 4, math.log(0.1))
    chosen = select_alone(Candidate(tree, budget=3, max_depth=8))
    assert (chosen.token_ids, chosen.parents) == ((1, 3, 2), (0, 1, 0))
    assert chosen.path_scores == pytest.approx((math.log(0.6), math.log(0.54), math.log(0.3)))
    assert select_alone(Candidate(tree, budget=3, max_depth=1)).token_ids == (1, 2)
    assert select_alone(Candidate(tree, budget=0, max_depth=8)).token_ids == ()


def test_expected_gain_counts_only_new_nodes_within_the_budget() -> None:
    tree = DraftTree(0, 0)
    old, _ = tree.add(tree.root, 1, math.log(0.5))
    new, _ = tree.add(old, 2, math.log(0.5))
    far, _ = tree.add(new, 3, math.log(0.5))
    assert tree.expected_gain([new, far], budget=2) == pytest.approx(0.25)
    assert tree.expected_gain([new, far], budget=3) == pytest.approx(0.375)


PATHS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=20)


@given(
    paths=PATHS,
    moves=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=4),
    budget=st.integers(0, 12),
)
def test_laws_of_any_history(paths: list[list[int]], moves: list[list[int]], budget: int) -> None:
    tree, seen = DraftTree(0, 0), set[Node]()
    for index in range(max(len(paths), len(moves))):
        if index < len(paths):
            grow(tree, (paths[index], -0.1 * (index + 1)))
            seen.update(tree.live())
        if index < len(moves):
            tree.advance(moves[index])
        live = set(tree.live())
        assert tree.size == len(live)
        assert all((node.state is State.LIVE) == (node in live) for node in seen)
        selection = select_alone(Candidate(tree, budget, 64))
        assert len(selection.nodes) == min(budget, tree.size)
        rows = (tree.root, *selection.nodes)
        for row, (node, parent) in enumerate(zip(selection.nodes, selection.parents, strict=True), 1):
            assert parent < row
            assert rows[parent].children[node.token_id] is node


@given(st.lists(st.floats(-5.0, -0.01), min_size=1, max_size=6))
def test_siblings_exclude_each_other(scores: list[float]) -> None:
    """Whatever their sources say of them, they cannot be expected to be accepted more than once together."""
    tree = DraftTree(0, 0)
    for token_id, score in enumerate(scores):
        tree.add(tree.root, token_id, score, source=f"drafter {token_id}")
    said = sum(map(math.exp, scores))
    found = {node.token_id: score for score, node in tree.best_first()}
    assert tree.expected(len(scores)) == pytest.approx(min(said, 1.0))
    assert found == pytest.approx({token_id: s - max(0.0, math.log(said)) for token_id, s in enumerate(scores)})
