"""Sorted contexts find what a naive search finds, however the texts came in."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paceline.speculation.suffixes import DEPTH, SEPARATOR, SHORTER, Context, Segment, longest_matches, sort_contexts

token_ids = st.sampled_from([0, 1, 2, 255, 256, 0xFFFFFFFE])
texts = st.lists(token_ids, max_size=40)
corpora = st.lists(texts, min_size=1, max_size=5)


def ends(corpus: list[list[int]], pattern: list[int]) -> list[tuple[int, int]]:
    """Document and position after each occurrence that something follows."""
    size = len(pattern)
    return [(n, e) for n, text in enumerate(corpus) for e in range(size, len(text)) if text[e - size : e] == pattern]


def continuations(corpus: list[list[int]], text: list[int]) -> tuple[int, Counter[int]]:
    """What naive search finds after the longest match of the end of ``text``."""
    for length in range(len(text), 0, -1):
        places = ends(corpus, text[-length:])
        if places:
            return length, Counter(corpus[n][end] for n, end in places)
    return 0, Counter()


@given(corpora, st.lists(token_ids, min_size=1, max_size=4))
def test_find_is_naive_search(corpus: list[list[int]], pattern: list[int]) -> None:
    segment = Segment.of(corpus)
    expected = len(ends(corpus, pattern))
    low, high = segment.find(Context(pattern), len(pattern))
    assert high - low == expected
    at, _ = segment.longest(Context(pattern))
    if expected:
        assert segment.find(Context(pattern), len(pattern), (at, at)) == (low, high)


@given(corpora, texts, st.integers(0, 5))
def test_the_longest_matches_are_those_of_a_naive_search(corpus: list[list[int]], text: list[int], cut: int) -> None:
    """In one segment or in two."""
    expected, following = continuations(corpus, text)
    for segments in ([Segment.of(corpus)], [Segment.of(corpus[:cut]), Segment.of(corpus[cut:])]):
        length, matches = longest_matches(segments, Context(text), most=1000)
        assert length == expected
        assert Counter(m.tokens[m.position - 1] for m in matches if m.weight == 1.0) == following
        assert len({(id(m.tokens.obj), m.position) for m in matches}) == len(matches) <= (SHORTER + 1) * 200


@given(corpora, corpora)
def test_joining_is_building(one: list[list[int]], other: list[list[int]]) -> None:
    joined = Segment.join([Segment.of(one).tokens, Segment.of(other).tokens])
    assert np.array_equal(joined.tokens, Segment.of([*one, *other]).tokens)


@given(texts)
def test_the_order_is_that_of_the_bytes(text: list[int]) -> None:
    segment = Segment.of([text, text[::-1]])
    held = segment.tokens.tolist()
    stands = [held[place : held.index(SEPARATOR, place) + 1][:DEPTH] for place in sort_contexts(segment.tokens)]
    as_bytes = [np.array(context, np.uint32).tobytes() for context in stands]
    assert as_bytes == sorted(as_bytes)


def test_samples_are_even() -> None:
    segment = Segment.of([[7, token] for token in range(1000)])
    length, matches = longest_matches([segment], Context([3, 7]), most=50)
    assert length == 1
    assert len(matches) == 50
    assert sum(match.weight for match in matches) == 1000


def test_matches_end_at_the_separator_and_contexts_cannot_hold_one() -> None:
    segment = Segment.of([[1, 2], [3, 4]])
    assert longest_matches([segment], Context([2]), 10) == (0, [])
    assert longest_matches([segment], Context([SEPARATOR, 3]), 10)[0] == 1
    assert longest_matches([segment], Context([3, SEPARATOR]), 10) == (0, [])
