"""Where a text's last tokens occur in texts known before, and what came next there: sorted contexts.

A segment holds documents backwards, each between separators, and the order of all their positions by what stands
there (a suffix array). Backwards, the end of a growing text is the beginning of a pattern: one binary search finds its
longest match, shorter ones lie around it, and the token to the left of a match is the one that came next.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paceline.speculation.policy import NO_SCOPE

SEPARATOR = 0xFFFFFFFF
"""Stands before, between and after documents; no vocabulary has it, so no match and no continuation runs across."""
DEPTH = 64
"""Tokens by which positions are sorted: longer matches are not told apart."""
TOKEN_BYTES = 4
ENOUGH = 8
"""With so many matches shorter ones have nothing to add."""
SHORTER = 2
"""Shorter lengths looked at where matches are few."""
FADING = 0.25
"""What a match that is one token shorter counts for."""
_NEAR = 64

Tokens = NDArray[np.uint32]
Order = NDArray[np.int32]


class Match(NamedTuple):
    """A place in a segment: ``tokens[position - 1]`` came next; it stands for ``weight`` such places."""

    tokens: memoryview[int]
    position: int
    weight: float


class Context:
    """The last tokens of a text, backwards."""

    def __init__(self, token_ids: Sequence[int], longest: int = DEPTH) -> None:
        last = list(reversed(token_ids[-min(longest, DEPTH) :]))
        self.tokens = last[: last.index(SEPARATOR)] if SEPARATOR in last else last
        self.bytes = array("I", self.tokens).tobytes()


def finished_text(scope: str, token_ids: Sequence[int], first: int, longest: int = DEPTH) -> Sequence[int]:
    """What is remembered of a finished session: its tokens from ``first`` on and as many before as a match may need.

    Empty: nothing, as it said nothing new or is of the scope that shares nothing.
    """
    if scope == NO_SCOPE or len(token_ids) <= first:
        return ()
    return token_ids[max(0, first - longest) :]


def backwards(documents: Iterable[Sequence[int] | Tokens]) -> Tokens:
    """Documents as a segment keeps them."""
    parts = [np.array([SEPARATOR], np.uint32)]
    for document in documents:
        parts += [np.asarray(document, np.uint32)[::-1], parts[0]]
    return np.concatenate(parts)


def sort_contexts(tokens: Tokens, depth: int = DEPTH) -> Order:
    """Positions in the order of the bytes that stand there, as far as ``depth`` tokens tell them apart.

    Prefix doubling (Manber & Myers 1993) in which only what is not told apart yet is sorted again (Larsson & Sadakane
    1999). Left out are separators and the ends of documents, which nothing follows. All that takes long is numpy's, so
    another thread may work meanwhile.
    """
    count = len(tokens)
    key = np.zeros(count, np.uint64)
    np.left_shift(_sortable(tokens), np.uint64(32), out=key)
    key[:-1] |= _sortable(tokens[1:])
    order = np.argsort(key).astype(np.int32)
    rank = np.empty(count, np.int32)
    tied = _rank(rank, order, np.arange(count, dtype=np.int32), key[order])
    width = 2
    while width < depth and len(tied):
        mine = order[tied]
        after = np.minimum(mine.astype(np.int64) + width, count - 1)  # past a last separator nothing is told apart
        pair = (rank[mine].astype(np.int64) << 32) | rank[after]
        by_pair = np.argsort(pair)
        order[tied] = mine[by_pair]
        tied = _rank(rank, mine[by_pair], tied, pair[by_pair])
        width *= 2
    follows = np.concatenate([[False], tokens[:-1] != SEPARATOR]) & (tokens != SEPARATOR)
    kept: Order = order[follows[order]]
    return kept


def _sortable(tokens: Tokens) -> NDArray[np.uint64]:
    """Numbers that compare as the tokens' bytes do."""
    return tokens.view(np.dtype(">u4")).astype(np.uint64)


def _rank(rank: Order, positions: Order, places: Order, keys: NDArray[np.generic]) -> Order:
    """Ranks sorted ``positions`` by the first of the ``places`` that equal keys share; returns places still shared."""
    new = np.concatenate([[True], keys[1:] != keys[:-1]])
    starts = np.flatnonzero(new)
    rank[positions] = places[starts][np.cumsum(new) - 1]
    alone = new & np.concatenate([new[1:], [True]])
    shared: Order = places[~alone]
    return shared


class Segment:
    """Documents that do not change any more, and the order of their contexts; both may be memory-mapped."""

    def __init__(self, tokens: Tokens, order: Order) -> None:
        self.tokens, self.order = tokens, order
        self._bytes = tokens.data.cast("B")
        self._tokens: memoryview[int] = self._bytes.cast("I")
        self._order: memoryview[int] = order.data.cast("B").cast("i")

    @classmethod
    def of(cls, documents: Iterable[Sequence[int] | Tokens]) -> Segment:
        tokens = backwards(documents)
        return cls(tokens, sort_contexts(tokens))

    @classmethod
    def join(cls, parts: Sequence[Tokens]) -> Segment:
        """One segment from what others or ``backwards`` hold."""
        tokens = np.concatenate([parts[0], *(part[1:] for part in parts[1:])])
        return cls(tokens, sort_contexts(tokens))

    def __len__(self) -> int:
        """Tokens, separators counted."""
        return len(self.tokens)

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + self.order.nbytes

    def longest(self, context: Context) -> tuple[int, int]:
        """Where the context belongs in the order, and the length of its longest match, which is beside that."""
        at = self._bisect(context.bytes, 0, len(self._order))
        beside = [self._common(place, context) for place in (at - 1, at) if 0 <= place < len(self._order)]
        return at, max(beside, default=0)

    def find(self, context: Context, length: int, near: tuple[int, int] | None = None) -> tuple[int, int]:
        """The range of the order in which the last ``length`` tokens match; ``near`` lies in or beside it."""
        pattern, count = context.bytes[: TOKEN_BYTES * length], len(self._order)
        at = self._bisect(pattern, 0, count) if near is None else 0
        low, high = near or (at, at)
        below, above = low - _NEAR, high + _NEAR  # mostly the range ends there, which spares half of the search
        if below < 0 or self._matches(below, pattern):
            below = 0
        if above >= count or self._matches(above, pattern):
            above = count
        return self._bisect(pattern, below, low), self._bisect(_successor(pattern), high, above)

    def match(self, place: int, weight: float) -> Match:
        return Match(self._tokens, self._order[place], weight)

    def _bisect(self, pattern: bytes, low: int, high: int) -> int:
        data, size = self._bytes, len(pattern)

        def read(position: int) -> bytes:
            return bytes(data[TOKEN_BYTES * position : TOKEN_BYTES * position + size])

        return bisect_left(self._order, pattern, low, high, key=read)

    def _matches(self, place: int, pattern: bytes) -> bool:
        start = TOKEN_BYTES * self._order[place]
        return self._bytes[start : start + len(pattern)] == pattern

    def _common(self, place: int, context: Context) -> int:
        tokens, start = self._tokens, self._order[place]
        for length, token_id in enumerate(context.tokens):
            if tokens[start + length] != token_id:
                return length
        return len(context.tokens)


def _successor(pattern: bytes) -> bytes:
    """The least bytes greater than all that begin with ``pattern``; a separator, which has none, is in no pattern."""
    kept = pattern.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


def longest_matches(segments: Sequence[Segment], context: Context, most: int) -> tuple[int, list[Match]]:
    """The length of the longest match in any segment, and up to ``most`` matches of it and of each length just below.

    Where there are more they are sampled evenly. A shorter match weighs less, and counts where it is not longer.
    """
    known = [(segment, *segment.longest(context)) for segment in segments]
    best = max((length for _, _, length in known), default=0)
    found: list[Match] = []
    inner = {index: (at, at) for index, (_, at, _) in enumerate(known)}
    for length in range(best, max(0, best - SHORTER - 1), -1):
        rings: list[tuple[Segment, range]] = []
        for index, (segment, _, reached) in enumerate(known):
            if reached >= length:
                low, high = inner[index]
                inner[index] = start, end = segment.find(context, length, (low, high))
                rings += [(segment, range(start, low)), (segment, range(high, end))]
        found += _sample(rings, most, FADING ** (best - length))
        if len(found) >= ENOUGH:
            break
    return best, found


def _sample(rings: Sequence[tuple[Segment, range]], most: int, weight: float) -> Iterator[Match]:
    """Every n-th place of the ranges taken together, so that there are ``most`` at most."""
    total = sum(len(places) for _, places in rings)
    step = max(1, -(-total // most))
    skip = 0
    for segment, places in rings:
        for place in places[skip::step]:
            yield segment.match(place, weight * step)
        skip = (skip - len(places)) % step
