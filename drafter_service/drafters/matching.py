"""What drafters over sorted contexts share: the longest match of a text's end, and a tree from the counts behind it."""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from drafter_service.drafters.lookup import Branch, Branches, LookupDrafter
from drafter_service.session import DraftSession
from paceline.speculation.suffixes import SEPARATOR, Context, Segment, longest_matches

MATCHES = 32
"""Matches looked at for each length, at most."""
LENGTHS = (2, 3, 4, 6, 8, 12, 16, 24)
"""Lengths of match from which on evidence is a degree stronger."""
_SEEN_ONCE = (0.15, 0.35, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
PRIORS = tuple(rate for once in _SEEN_ONCE for rate in (once, min(once + 0.1, 0.95)))
"""Chance that what comes next was seen, by length of match; for each first where it was seen once, then more often."""


Onward = tuple["memoryview[int]", int, float]
"""As a ``Match``, a plain tuple: a tree makes hundreds of them."""


class Place(NamedTuple):
    """Matches of a path, the length of the longest, and how many more tokens may follow it."""

    matches: Sequence[Onward]
    length: int
    left: float


class MatchingDrafter(LookupDrafter[Place]):
    """Counts what came next after the longest match; a kind says where to look (``segments``)."""

    def __init__(self, longest: int, spec_factor: float = math.inf, least_share: float = 0.0) -> None:
        """A match of n tokens, at most ``longest``, is followed for ``spec_factor`` times n; rarer tokens are not."""
        super().__init__(PRIORS)
        self.longest, self._spec_factor, self._least_share = longest, spec_factor, least_share

    @abstractmethod
    def segments(self, session: DraftSession) -> Sequence[Segment]:
        """Where a session's text may be looked up."""

    def begin(self, session: DraftSession) -> Place | None:
        segments = self.segments(session)
        if not segments:
            return None
        length, matches = longest_matches(segments, Context(session.tokens, self.longest), MATCHES)
        return Place(matches, length, self._spec_factor * length) if matches else None

    def follow(self, place: Place) -> Branches[Place] | None:
        matches, length, left = place
        if left < 1:
            return None
        further: dict[int, list[Onward]] = {}
        counts: dict[int, float] = {}
        for tokens, position, weight in matches:
            token_id = tokens[position - 1]
            if token_id in further:
                further[token_id].append((tokens, position - 1, weight))
                counts[token_id] += weight
            elif token_id != SEPARATOR:
                further[token_id], counts[token_id] = [(tokens, position - 1, weight)], weight
        if not further:
            return None
        total = sum(counts.values())
        branches = [
            Branch(token_id, count / total, Place(further[token_id], length + 1, left - 1))
            for token_id, count in sorted(counts.items(), key=_rank, reverse=True)
            if count >= self._least_share * total
        ]
        return Branches(2 * bisect_right(LENGTHS, length) + (total > 1), branches)


def _rank(counted: tuple[int, float]) -> tuple[float, int]:
    token_id, count = counted
    return count, token_id
