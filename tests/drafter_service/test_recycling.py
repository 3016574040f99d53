"""Rows of candidates are kept, offered and bounded, scopes do not mix, estimates become true."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drafter_service.drafters.recycling import RANKS, ROWS, Adjacency, RecyclingDrafter
from drafter_service.session import DraftSession
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.sampling import SamplingParameters
from tests.drafter_service.growing import commit, grown, opened
from tests.in_process import InProcess, generate, load, make_drafter

ids = st.integers(0, (1 << 32) - 2)
PROMPT = [1, 2, 3, 1, 2, 3, 1, 2]
GREEDY = SamplingParameters(max_tokens=60, temperature=0)


def first(session: DraftSession) -> set[int]:
    return set(session.tree.root.children)


@given(st.dictionaries(ids, st.lists(ids, max_size=RANKS, unique=True), max_size=20))
def test_rows_come_back_as_they_were_put_or_have_given_way(rows: dict[int, list[int]]) -> None:
    matrix, slots = Adjacency(), dict[int, int]()
    for token, candidates in rows.items():
        matrix.replace(token, candidates)
        slots[token % ROWS] = token
    for token, candidates in rows.items():
        row = matrix.row(token)
        assert (row.candidates if row else None) == (candidates if slots[token % ROWS] == token else None)
    assert matrix.nbytes < 2 << 20


def test_a_token_never_gets_the_row_of_another_one() -> None:
    matrix = Adjacency()
    matrix.replace(5, [1, 2])
    assert matrix.row(5 + ROWS) is None
    matrix.replace(5 + ROWS, [3])
    assert matrix.row(5) is None
    found = matrix.row(5 + ROWS)
    assert found is not None
    assert found.candidates == [3]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=60))
def test_a_read_text_leaves_the_latest_followers_in_front(text: list[int]) -> None:
    matrix = Adjacency()
    matrix.read(text)
    for token in set(text[:-1]):
        followers = [text[at + 1] for at in reversed(range(len(text) - 1)) if text[at] == token]
        row = matrix.row(token)
        assert row is not None
        assert row.candidates == list(dict.fromkeys(followers))


def test_learned_rows_are_offered_and_the_newest_wins() -> None:
    kind = RecyclingDrafter()
    session = opened(kind, [9, 1], width=3)
    for row in ([5, 6, 7, 8], [30, 31, 32, 33]):
        commit(kind, session, [row[0], 1])
        kind.learn(session, [row, [1]])
        grown(kind, session)
        assert first(session) == set(row[:3])


def test_candidates_belong_to_the_tokens_before_the_last_positions() -> None:
    kind = RecyclingDrafter()
    session = opened(kind, [1, 2, 3])
    commit(kind, session, [4, 5, 2])
    kind.learn(session, [[40, 41], [50, 51], [60, 61]])
    for last, expected in ((3, {40, 41}), (4, {50, 51}), (5, {60, 61})):
        commit(kind, session, [77, last])
        grown(kind, session)
        assert first(session) == expected


def test_what_was_verified_beside_the_text_stands_behind_what_followed_in_it() -> None:
    kind = RecyclingDrafter()
    session = opened(kind, [1, 2, 3])
    commit(kind, session, [4, 9])
    kind.learn(
        session,
        [[4, 40], [9, 90]],
        [NodeCandidates(7, (70, 71)), NodeCandidates(1, (30, 2, 31)), NodeCandidates(3, (5, 6))],
    )
    for last, expected in ((7, [70, 71]), (1, [2, 30, 31]), (3, [4, 40])):
        commit(kind, session, [77, last])
        grown(kind, session)
        assert [child.token_id for child in session.tree.root.children.values()] == expected


def test_text_is_followed_where_the_target_tells_nothing() -> None:
    kind = RecyclingDrafter()
    session = opened(kind, [1, 2, 7])
    commit(kind, session, [1, 3, 1])
    grown(kind, session)
    assert first(session) == {2, 3}


def test_without_updates_only_the_prompt_is_known() -> None:
    kind = RecyclingDrafter(updates=False)
    assert not kind.wants_candidates
    session = opened(kind, [1, 2, 7])
    commit(kind, session, [1, 3, 1])
    kind.learn(session, [[8, 9], [8, 9], [8, 9]])
    grown(kind, session)
    assert first(session) == {2}


@pytest.mark.parametrize("shape_width", [1, 2])
def test_no_node_has_more_children_than_are_wanted(shape_width: int) -> None:
    kind = RecyclingDrafter()
    session = opened(kind, [1, 2, 1, 3, 1, 4, 1], width=shape_width)
    assert len(grown(kind, session)) >= 1
    assert all(len(node.children) <= shape_width for node in [session.tree.root, *session.tree.live()])


@pytest.mark.parametrize(
    ("taught", "asked", "memory", "known"),
    [
        ("", "", True, True),
        ("a", "a", True, True),
        ("a", "b", True, False),
        ("a", "", True, False),
        ("", "a", True, False),
        ("none", "none", True, False),
        ("none", "", True, False),
        ("", "none", True, False),
        ("", "", False, False),
        ("a", "a", False, False),
    ],
)
def test_what_a_scope_was_taught_stays_there(taught: str, asked: str, memory: bool, known: bool) -> None:  # noqa: FBT001
    kind = RecyclingDrafter(memory=memory)
    teacher = opened(kind, [1, 2, 3], "teacher", scope=taught)
    commit(kind, teacher, [4, 1])
    kind.learn(teacher, [[4, 40], [1, 10]])
    kind.close(teacher)
    for last in (1, 2, 3, 4):
        other = opened(kind, [last], f"other-{last}", scope=asked)
        assert bool(grown(kind, other)) == known


def test_estimates_come_true_on_a_markov_chain() -> None:
    """Each token is followed by the next one with 70 %, else by the one after it; the target knows that."""
    draw, kind, text = random.Random(1), RecyclingDrafter(), [0]
    session, said, right = opened(kind, text), 0.0, 0
    for step in range(1500):
        grown(kind, session)
        likeliest = max(session.tree.root.children.values(), key=lambda node: node.log_score, default=None)
        last = session.tokens[-1]
        token = (last + (1 if draw.random() < 0.7 else 2)) % 16
        if step >= 300 and likeliest is not None:
            said += math.exp(likeliest.log_score) / 1200
            right += likeliest.token_id == token
        commit(kind, session, [token])
        kind.learn(session, [[(last + ahead) % 16 for ahead in range(1, 9)]])
    assert right / 1200 == pytest.approx(0.7, abs=0.05)  # 3.8 standard deviations
    assert said == pytest.approx(right / 1200, abs=0.07)


def test_it_proposes_once_for_each_root() -> None:
    kind = RecyclingDrafter()
    session = opened(kind, [1, 2, 1])
    assert grown(kind, session)
    assert not kind.growable(session)
    commit(kind, session, [2])
    assert kind.growable(session)


@given(st.lists(ids, min_size=1, max_size=40), st.lists(st.lists(ids, max_size=12), max_size=12))
def test_nothing_that_it_is_told_upsets_it(prompt: list[int], candidates: list[list[int]]) -> None:
    kind = RecyclingDrafter(memory=False)
    session = opened(kind, prompt)
    commit(kind, session, prompt[:2])
    kind.learn(session, candidates)
    grown(kind, session)


def test_greedy_text_is_the_targets_own_and_soon_foreseen(target_path: Path) -> None:
    target = load(target_path)
    world = InProcess(target, [make_drafter(RecyclingDrafter(), 64)])
    for name in ("warm-up", "s"):
        world.open(name, PROMPT, GREEDY)
        world.run()
        assert world.recorder.tokens[name] == generate(target, [], PROMPT, GREEDY)
    overlap = world.recorder.last["s"].overlap
    assert overlap is not None
    assert overlap.accepted_nodes > 10
