"""Whatever a drafter sends, and whenever: late nodes are absorbed or dropped, nonsense is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.speculation.fields import FieldError
from paceline.speculation.merge import (
    CREDIT,
    MAX_DEPTH,
    MAX_LIVE_NODES,
    MAX_LIVE_NODES_PER_SOURCE,
    DraftSource,
    NodeColumns,
    check_columns,
    merge,
)
from paceline.speculation.tree import DraftTree, State


def columns(tokens: list[int], parents: list[int], first: int = 1, root: int = 0, score: float = -0.5) -> NodeColumns:
    return NodeColumns(
        first, root, np.array(tokens, np.uint32), np.array(parents, np.uint64), np.full(len(tokens), score, np.float32)
    )


def test_new_nodes_hang_below_their_parents() -> None:
    tree, source = DraftTree(9, 0), DraftSource("d")
    added = merge(tree, [9], source, columns([1, 2, 3], [0, 1, 0]))
    assert [node.token_id for node in added] == [1, 2, 3]
    assert tree.root.children[1].children[2] is added[1]


def test_repeated_ids_are_ignored() -> None:
    tree, source = DraftTree(9, 0), DraftSource("d")
    merge(tree, [9], source, columns([1, 2], [0, 1]))
    assert merge(tree, [9], source, columns([1, 2], [0, 1])) == []
    assert (tree.size, source.proposed) == (2, 2)


def test_nodes_on_the_committed_path_are_absorbed_and_stay_parents() -> None:
    tree, source, text = DraftTree(9, 0), DraftSource("d"), [9, 1, 2]
    tree.advance([1, 2])
    added = merge(tree, text, source, columns([1, 2, 3, 4], [0, 1, 2, 3]))
    assert [node.token_id for node in added] == [3, 4]
    assert tree.root.children[3].position == 3
    assert source.stale == 0


def test_nodes_beside_the_committed_path_are_stale_with_their_descendants() -> None:
    tree, source, text = DraftTree(9, 0), DraftSource("d"), [9, 1]
    merge(tree, text[:1], source, columns([5], [0]))
    tree.advance([1])
    assert merge(tree, text, source, columns([6, 7, 8], [1, 2, 0], first=2)) == []
    assert (tree.size, source.stale) == (0, 3)


def test_a_lost_message_costs_its_nodes_and_their_descendants() -> None:
    tree, source = DraftTree(9, 0), DraftSource("d")
    added = merge(tree, [9], source, columns([3, 4], [0, 2], first=5))
    assert [node.token_id for node in added] == [3]
    assert source.stale == 1


def test_bounds_of_depth_and_size_drop_nodes_silently() -> None:
    tree, source = DraftTree(9, 0), DraftSource("d")
    merge(tree, [9], source, columns([1] * (MAX_DEPTH + 3), list(range(MAX_DEPTH + 3))))
    assert tree.size == MAX_DEPTH
    for name in ("e", "f", "g"):
        source = DraftSource(name)
        for start in range(1, MAX_LIVE_NODES, 200):
            tokens = [ord(name) * 10_000 + token for token in range(start, start + 200)]
            merge(tree, [9], source, columns(tokens, [0] * 200, first=start))
        assert tree.owned[name] <= MAX_LIVE_NODES_PER_SOURCE
    assert tree.size == MAX_LIVE_NODES


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (columns([64], [0]), "token_ids"),
        (columns([1], [1]), "parent_ids"),
        (columns([1], [7]), "parent_ids"),
        (columns([1], [0], root=3), "root_position"),
        (columns([1], [0], first=0), "first_node_id"),
        (columns([1], [0], first=CREDIT + 1), "first_node_id"),
        (columns([1] * 300, [0] * 300), "token_ids"),
        (columns([1], [0], score=float("nan")), "log_scores"),
        (NodeColumns(1, 0, np.zeros(2, np.uint32), np.zeros(1, np.uint64), np.zeros(2, np.float32)), "parent_ids"),
        (NodeColumns(1, 0, np.zeros(2, np.uint32), np.zeros(2, np.uint64), np.zeros(3, np.float32)), "log_scores"),
    ],
)
def test_malformed_columns_are_named(bad: NodeColumns, field: str) -> None:
    with pytest.raises(FieldError, match=f"{field} = .*: expected"):
        check_columns(bad, DraftSource("d"), root_position=0, vocabulary_size=64)


@given(st.data())
def test_no_history_of_messages_and_commits_revives_a_dead_node(data: st.DataObject) -> None:
    """Every live node spells a path from the text's end, and every reference points at what it says."""
    text, tree, source, next_id = [0], DraftTree(0, 0), DraftSource("d"), 1
    for _ in range(data.draw(st.integers(1, 8))):
        root = data.draw(st.integers(0, len(text) - 1))
        count = data.draw(st.integers(1, 6))
        tokens = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
        parents = [data.draw(st.integers(0, next_id + i - 1)) for i in range(count)]
        message = columns(tokens, parents, first=next_id, root=root)
        check_columns(message, source, tree.root.position, 3)
        merge(tree, text, source, message)
        next_id += count
        if data.draw(st.booleans()):
            step = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
            text += step
            tree.advance(step)
        live = set(tree.live())
        assert tree.size == len(live)
        for node in live:
            walker, depth = node, 0
            while walker.parent is not None:
                assert walker.parent.children[walker.token_id] is walker
                walker, depth = walker.parent, depth + 1
            assert walker is tree.root
            assert node.position == tree.root.position + depth
        for node in source.references.values():
            assert (node.state is State.LIVE) == (node in live)
            if node.state is State.COMMITTED:
                assert text[node.position] == node.token_id


@given(
    parents=st.lists(st.integers(0, 20), min_size=1, max_size=12),
    score=st.sampled_from([0.0, -1.0, 1e30, -1e30, math.nan, math.inf, -math.inf]),
)
def test_a_cyclic_tree_or_one_that_is_not_a_number_never_gets_in(parents: list[int], score: float) -> None:
    """What gets in has its parents before it, finite estimates, and an end."""
    count = len(parents)
    tokens, scores = np.arange(count, dtype=np.uint32) % 3, np.full(count, score, np.float32)
    sent = NodeColumns(1, 0, tokens, np.array(parents, np.uint64), scores)
    source, tree = DraftSource("d"), DraftTree(0, 0)
    try:
        check_columns(sent, source, 0, 64)
    except FieldError:
        assert not math.isfinite(score) or any(parent > index for index, parent in enumerate(parents))
        return
    merge(tree, [0], source, sent)
    assert all(parent <= index for index, parent in enumerate(parents))
    assert all(math.isfinite(node.log_score) and node.path() for node in tree.live())
    assert len(list(tree.best_first())) == tree.size <= count
