"""What followed two tokens is offered, what is rare now and then, all of it bounded and true to its estimates."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import drafter_service.drafters.trigram as trigram
from drafter_service.drafters.trigram import FOLLOWERS, Followers, Matrix, TrigramDrafter
from drafter_service.session import DraftSession
from paceline.speculation.sampling import SamplingParameters
from tests.drafter_service.growing import commit, grown, opened
from tests.in_process import InProcess, generate, load, make_drafter

PROMPT = [1, 2, 3, 1, 2, 3, 1, 2]
GREEDY = SamplingParameters(max_tokens=60, temperature=0)
ids = st.integers(0, (1 << 32) - 2)


def likeliest(session: DraftSession) -> int:
    children = session.tree.root.children.values()
    return max(children, key=lambda node: node.log_score).token_id


@given(st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=8))
def test_a_text_is_counted_alike_in_one_piece_and_in_many(pieces: list[list[int]]) -> None:
    whole, parts, text = Matrix(), Matrix(), [0]
    for piece in pieces:
        text += piece
        parts.read(text, len(text) - len(piece))
    whole.read(text, 1)
    assert len(whole) == len(parts)
    for before in range(4):
        for last in range(4):
            ours, theirs = whole.pair(before, last), parts.pair(before, last)
            assert (ours.seen if ours else None) == (theirs.seen if theirs else None)


def test_two_tokens_tell_more_than_one() -> None:
    kind = TrigramDrafter(exploration=0.0)
    session = opened(kind, [1, 2, 5, 3, 2, 6, 3, 2, 6, 1, 2])
    grown(kind, session)
    assert likeliest(session) == 5
    assert set(session.tree.root.children) == {5, 6}


def test_the_last_token_alone_is_better_than_nothing() -> None:
    kind = TrigramDrafter()
    session = opened(kind, [1, 2, 5, 9, 2])
    grown(kind, session)
    assert set(session.tree.root.children) == {5}


def test_the_newest_wins() -> None:
    kind = TrigramDrafter(exploration=0.0)
    session = opened(kind, [1, 2, 5] * 20)
    commit(kind, session, [1, 2, 6] * 8 + [1, 2])
    grown(kind, session)
    assert likeliest(session) == 6


@given(st.lists(st.integers(0, 30), max_size=200), st.lists(st.lists(st.integers(0, 40), max_size=4), max_size=30))
def test_followers_are_bounded(tokens: list[int], offers: list[list[int]]) -> None:
    followers = Followers()
    for token in tokens:
        followers.add(token)
        assert token in followers.seen
    for offer in offers:
        followers.offer(offer)
    assert len(followers.seen) <= FOLLOWERS
    assert len(followers.tried) <= 2 * FOLLOWERS


def test_the_contexts_not_seen_for_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigram, "CONTEXTS", 50)
    matrix, draw = Matrix(), random.Random(0)
    for _ in range(20):
        matrix.read([1, 2, 3, *(draw.randrange(1000) for _ in range(20))], 1)
        assert len(matrix) <= 50
    kept = matrix.pair(1, 2)
    assert kept is not None
    assert kept.seen[3] > 5


@pytest.mark.parametrize(("exploration", "tried"), [(0.0, False), (trigram.EXPLORATION, True)])
def test_what_is_rare_is_tried_in_the_end(exploration: float, tried: bool) -> None:  # noqa: FBT001
    """One continuation is likely, one place is left; only who explores gives the rarer one of two others a chance."""
    kind = TrigramDrafter(exploration=exploration)
    session = opened(kind, [1, 2, 7, 1, 2, 6, *[1, 2, 5] * 6], width=2)
    offered = set[int]()
    for _ in range(12):
        commit(kind, session, [1, 2])
        grown(kind, session)
        offered.update(session.tree.root.children)
        commit(kind, session, [5])
    assert {5, 6} <= offered
    assert (7 in offered) == tried


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.floats(0, 1), st.integers(1, 5))
def test_shares_never_exceed_one(text: list[int], exploration: float, width: int) -> None:
    kind = TrigramDrafter(exploration=exploration, memory=False)
    session = opened(kind, text, width=width)
    for _ in range(3):
        found = kind.follow(kind.begin(session))
        if found is not None:
            assert 0 < sum(branch.share for branch in found.branches) <= 1 + 1e-9
            assert len({branch.token_id for branch in found.branches}) == len(found.branches) <= width


def test_a_chain_has_one_node_at_each_level() -> None:
    kind = TrigramDrafter()
    session = opened(kind, [1, 2, 5, 1, 2, 6, 1, 2], width=1)
    assert len(grown(kind, session)) == 1


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
    kind = TrigramDrafter(memory=memory)
    teacher = opened(kind, [1, 2, 3], "teacher", scope=taught)
    commit(kind, teacher, [4, 1])
    kind.close(teacher)
    for last in (1, 2, 3, 4):
        other = opened(kind, [last], f"other-{last}", scope=asked)
        assert bool(grown(kind, other)) == known


def test_estimates_come_true_on_a_markov_chain() -> None:
    """Each token is followed by the next one with 80 %, else by the one after it."""
    draw, kind = random.Random(1), TrigramDrafter()
    session, said, right = opened(kind, [0]), 0.0, 0
    for step in range(1500):
        grown(kind, session)
        best = max(session.tree.root.children.values(), key=lambda node: node.log_score, default=None)
        token = (session.tokens[-1] + (1 if draw.random() < 0.8 else 2)) % 12
        if step >= 300 and best is not None:
            said += math.exp(best.log_score) / 1200
            right += best.token_id == token
        commit(kind, session, [token])
    assert right / 1200 > 0.7
    assert said == pytest.approx(right / 1200, abs=0.08)


def test_it_proposes_once_for_each_root() -> None:
    kind = TrigramDrafter()
    session = opened(kind, [1, 2, 1])
    assert grown(kind, session)
    assert not kind.growable(session)
    commit(kind, session, [2])
    assert kind.growable(session)


@given(st.lists(ids, min_size=1, max_size=40), st.lists(ids, min_size=1, max_size=5))
def test_any_token_may_come(prompt: list[int], more: list[int]) -> None:
    kind = TrigramDrafter(memory=False)
    session = opened(kind, prompt)
    grown(kind, session)
    commit(kind, session, more)
    grown(kind, session)


def test_greedy_text_is_the_targets_own_and_soon_foreseen(target_path: Path) -> None:
    target = load(target_path)
    world = InProcess(target, [make_drafter(TrigramDrafter(), 64)])
    for name in ("warm-up", "s"):
        world.open(name, PROMPT, GREEDY)
        world.run()
        assert world.recorder.tokens[name] == generate(target, [], PROMPT, GREEDY)
    overlap = world.recorder.last["s"].overlap
    assert overlap is not None
    assert overlap.accepted_nodes > 10
