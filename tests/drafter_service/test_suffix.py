"""Finished sessions are remembered: within their scope, within bounds, for their tokenizer, and each once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drafter_service.drafters.suffix import Snapshot, SuffixDrafter
from drafter_service.memory import SuffixMemory
from paceline.speculation.fields import FieldError
from paceline.speculation.policy import NO_SCOPE
from paceline.speculation.suffixes import SEPARATOR, Context, longest_matches
from tests.drafter_service.growing import commit, grown, opened

PROMPT, OUTPUT = [1, 2, 3, 4], [5, 6, 7, 8, 9]
names = map(str, itertools.count())


def memory(tokens: int = 100_000, documents: int = 1000) -> SuffixMemory:
    return SuffixMemory(tokens, documents)


def say(kind: SuffixDrafter, prompt: list[int], output: list[int], **options: object) -> None:
    """A whole session."""
    session = opened(kind, prompt, next(names), **options)
    commit(kind, session, output)
    kind.close(session)
    kind._memory.settle()


def drafts(kind: SuffixDrafter, text: list[int], **options: object) -> set[tuple[int, ...]]:
    return grown(kind, opened(kind, text, next(names), **options))


def test_what_a_session_said_is_offered_to_the_next() -> None:
    kind = SuffixDrafter(memory())
    say(kind, PROMPT, OUTPUT)
    assert drafts(kind, [9, 9, *PROMPT]) == {(5, 6, 7, 8)}
    assert drafts(kind, [77]) == set()


def test_counts_make_the_tree_and_its_estimates() -> None:
    kind = SuffixDrafter(memory())
    for output in ([10], [10], [10], [11]):
        say(kind, PROMPT, [*output, 12, 13])
    session = opened(kind, [0, *PROMPT], "asks")
    grown(kind, session)
    children = session.tree.root.children
    assert set(children) == {10, 11}
    assert children[10].log_score > children[11].log_score
    assert all(len(path) == 3 for path in drafts(kind, [0, *PROMPT]))
    assert {path[0] for path in drafts(kind, [0, *PROMPT], width=1)} == {10}


def test_options_bound_the_tree() -> None:
    """The factor its depth by the match's length, the least probability its branches, the depth the match."""
    store = memory()
    say(SuffixDrafter(store), PROMPT, OUTPUT)
    say(SuffixDrafter(store), PROMPT, [20])
    half = SuffixDrafter(store, max_spec_factor=0.5)
    assert {len(path) for path in drafts(half, [0, *PROMPT])} == {1, 2}
    assert drafts(SuffixDrafter(store, min_token_prob=0.6), [0, *PROMPT]) == set()
    assert {len(path) for path in drafts(SuffixDrafter(store, max_tree_depth=1), [0, *PROMPT])} == {1}


@pytest.mark.parametrize(("one", "other"), [("", "a"), ("a", ""), ("a", "b"), ("a", NO_SCOPE), (NO_SCOPE, NO_SCOPE)])
def test_scopes_are_kept_apart(one: str, other: str) -> None:
    kind = SuffixDrafter(memory())
    say(kind, PROMPT, OUTPUT, scope=one)
    assert drafts(kind, PROMPT, scope=other) == set()
    assert bool(drafts(kind, PROMPT, scope=one)) == (one != NO_SCOPE)


def test_rewinding_and_coming_back_publish_once() -> None:
    store = memory()
    kind = SuffixDrafter(store)
    session = opened(kind, PROMPT, "s")
    commit(kind, session, [5, 5])
    session.replace(5, (6,))
    kind.rewind(session, 5)
    assert store.documents == 0
    commit(kind, session, OUTPUT)
    kind.close(session)
    back = opened(kind, session.tokens, "s")
    kind.close(back)
    store.settle()
    assert store.documents == 1
    assert len(longest_matches(store.segments(""), Context([7, 8]), 100)[1]) == 1


def test_a_text_that_never_went_on_is_not_remembered() -> None:
    store = memory()
    kind = SuffixDrafter(store)
    kind.close(opened(kind, PROMPT))
    assert store.documents == 0


texts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(texts, st.lists(st.booleans(), min_size=12, max_size=12), st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_appending_in_any_pieces_gives_the_same_answers(
    said: list[list[int]], pauses: list[bool], text: list[int]
) -> None:
    piecewise, whole = memory(), memory()
    for tokens, pause in zip(said, pauses, strict=False):
        piecewise.remember("", tokens)
        if pause:
            piecewise.settle()
    for tokens in said:
        whole.remember("", tokens)
    answers = []
    for store in (piecewise, whole):
        store.settle()
        store.stop()
        length, matches = longest_matches(store.segments(""), Context(text), 10_000)
        answers.append((length, sorted((m.tokens[m.position - 1], m.weight) for m in matches)))
    assert answers[0] == answers[1]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 600)), min_size=1, max_size=30))
def test_the_bounds_hold_always_and_the_newest_stays(said: list[tuple[str, int]]) -> None:
    store = memory(1024, 12)
    for number, (scope, length) in enumerate(said):
        store.remember(scope, [number] * length)
        assert store.tokens <= 1024
        assert store.documents <= 12
    store.settle()
    held = [segment for scope in "abc" for segment in store.segments(scope)]
    assert sum(map(len, held)) == store.tokens
    scope, length = said[-1]
    assert len(said) - 1 in [token for segment in store.segments(scope) for token in segment.tokens.tolist()]
    store.stop()


def test_segments_stay_few() -> None:
    store = memory()
    for number in range(300):
        store.remember("", [number] * 40)
        store.settle()
    assert len(store.segments("")) <= 8


@given(texts)
@settings(max_examples=20, deadline=None)
def test_no_path_runs_into_another_text(said: list[list[int]]) -> None:
    kind = SuffixDrafter(memory(), max_spec_factor=10.0, min_token_prob=0.0)
    for tokens in said:
        kind._memory.remember("", tokens)
    kind._memory.settle()
    for path in drafts(kind, said[0][:2]):
        assert SEPARATOR not in path
        assert any(list(path) == text[at : at + len(path)] for text in said for at in range(len(text)))
    kind.stop()


def test_a_snapshot_survives_with_its_scopes(tmp_path: Path) -> None:
    place = Snapshot(tmp_path / "memory", "hash")
    for _ in range(2):  # the second run writes over what it was loaded from
        kind = SuffixDrafter(memory(), place)
        say(kind, PROMPT, OUTPUT, scope="a")
        kind.stop()
    kind = SuffixDrafter(memory(), place)
    assert drafts(kind, [0, *PROMPT], scope="a") == {(5, 6, 7, 8)}
    assert drafts(kind, [0, *PROMPT]) == set()
    assert [path.name for path in tmp_path.iterdir()] == ["memory"]
    say(kind, PROMPT, OUTPUT, scope="a")
    assert kind._memory.documents == 3


def test_a_snapshot_of_another_tokenizer_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "memory"
    kind = SuffixDrafter(memory(), Snapshot(place, "mine"))
    say(kind, PROMPT, OUTPUT)
    kind.stop()
    with pytest.raises(FieldError, match=r"snapshot = .*built with tokenizer other, not mine"):
        SuffixDrafter(memory(), Snapshot(place, "other"))
    array = place / "0.order.npy"
    array.write_bytes(array.read_bytes()[:-4])
    with pytest.raises(FieldError, match=r"snapshot = .*expected whole arrays"):
        SuffixDrafter(memory(), Snapshot(place, "mine"))
    (place / "index.json").write_text("{}")
    with pytest.raises(FieldError, match=r"snapshot = "):
        SuffixDrafter(memory(), Snapshot(place, "mine"))
