"""Drafts from counts of what followed two tokens, in a tree that now and then tries what is rare.

ADED (Liu et al. 2024, "Adaptive Draft-Verification for Efficient Large Language Model Decoding", arXiv 2407.12021): a
tri-gram matrix that adapts to what the target says, and a search like that of Monte Carlo trees, which balances what
has come true against what was seldom tried. Here counts of the last token alone back the matrix up.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from drafter_service.drafters.lookup import Branch, Branches, LookupDrafter
from drafter_service.drafters.scopes import ScopedMemories
from drafter_service.session import DraftSession

CONTEXTS, FOLLOWERS = 1 << 16, 8
"""Contexts of a memory and tokens after each, at most: some 35 MB. The least recently seen are forgotten."""
COUNT_MEMORY = 0.9
"""What is left of a context's counts when it is seen again: the matrix adapts within some ten times."""
BACKOFF = 1.0
"""The last token alone weighs as much as one time that the last two were seen."""
EXPLORATION = 0.05
"""Weight of the upper-confidence bonus; from 0.02 to 0.1 it made no difference on code with the embedded target."""
PEAK = 0.75
PRIORS = (0.35, 0.3, 0.6, 0.7, 0.55, 0.9, 0.6, 0.9, 0.7, 0.95)
"""Chance that one of the branches comes true, by strength (measured likewise)."""
_NO_TOKEN = (1 << 32) - 1


class Followers:
    """What came after a context: fading counts, and how often each was put into a tree."""

    __slots__ = ("seen", "tried")

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}
        self.tried: dict[int, int] = {}

    def add(self, token_id: int) -> None:
        for known in self.seen:
            self.seen[known] *= COUNT_MEMORY
        self.seen[token_id] = self.seen.get(token_id, 0.0) + 1.0
        if len(self.seen) > FOLLOWERS:
            least = min(self.seen, key=self.seen.__getitem__)
            del self.seen[least]
            self.tried.pop(least, None)

    def offer(self, token_ids: Sequence[int]) -> None:
        """Notes a trial of each; only tokens that are offered again and again are kept in mind."""
        for token_id in token_ids:
            self.tried[token_id] = self.tried.get(token_id, 0) + 1
        while len(self.tried) > 2 * FOLLOWERS:
            del self.tried[min(self.tried, key=self.tried.__getitem__)]


class Matrix:
    """Followers of pairs of tokens and of single ones."""

    def __init__(self) -> None:
        self._contexts = OrderedDict[int, Followers]()

    def __len__(self) -> int:
        return len(self._contexts)

    def read(self, text: Sequence[int], first: int) -> None:
        """Counts the tokens of a text from position ``first``, at least 1, on."""
        for position in range(first, len(text)):
            last, before = text[position - 1], text[position - 2] if position > 1 else _NO_TOKEN
            self._at(_pair(before, last)).add(text[position])
            self._at(~last).add(text[position])

    def pair(self, before: int, last: int) -> Followers | None:
        return self._contexts.get(_pair(before, last))

    def single(self, last: int) -> Followers | None:
        return self._contexts.get(~last)

    def _at(self, key: int) -> Followers:
        found = self._contexts.get(key)
        if found is None:
            found = self._contexts[key] = Followers()
            if len(self._contexts) > CONTEXTS:
                self._contexts.popitem(last=False)
        else:
            self._contexts.move_to_end(key)
        return found


def _pair(before: int, last: int) -> int:
    """Of a pair; a single token's key is its complement, so the two never meet."""
    return before << 32 | last


class Place(NamedTuple):
    """Two tokens, where to look them up, and how many branches are wanted."""

    matrix: Matrix
    before: int
    last: int
    width: int


class TrigramDrafter(LookupDrafter[Place]):
    """Follows counts from the last two tokens on."""

    name = "trigram"

    def __init__(self, *, exploration: float = EXPLORATION, memory: bool = True) -> None:
        """For ablations: ``exploration=0`` tries only what is likely; without ``memory`` a session is on its own."""
        super().__init__(PRIORS)
        self._exploration = exploration
        self._memories = ScopedMemories(Matrix, memory=memory)
        self._matrices: dict[str, Matrix] = {}

    def opened(self, session: DraftSession) -> None:
        self._matrices[session.session_id] = matrix = self._memories.of(session)
        matrix.read(session.tokens, 1)

    def closed(self, session: DraftSession) -> None:
        del self._matrices[session.session_id]

    def extended(self, session: DraftSession, token_ids: Sequence[int]) -> None:
        self._matrices[session.session_id].read(session.tokens, len(session.tokens) - len(token_ids))

    def begin(self, session: DraftSession) -> Place:
        before, last = (_NO_TOKEN, *session.tokens[-2:])[-2:]
        return Place(self._matrices[session.session_id], before, last, session.width)

    def follow(self, place: Place) -> Branches[Place] | None:
        matrix, before, last, width = place
        pair, single = matrix.pair(before, last), matrix.single(last)
        context = pair or single
        if context is None:
            return None
        likely = _mixed(pair, single)
        valued = self._explored(likely, context.tried)
        best = sorted(valued, key=valued.__getitem__, reverse=True)[:width]
        if self._exploration:
            context.offer(best)
        total = sum(valued[token_id] for token_id in best)
        times = min(round(sum(pair.seen.values())), 4) if pair else 0
        return Branches(
            2 * times + (max(likely.values()) > PEAK),
            [Branch(after, valued[after] / total, Place(matrix, last, after, width)) for after in best],
        )

    def _explored(self, likely: dict[int, float], tried: dict[int, int]) -> dict[int, float]:
        """Probabilities with an upper-confidence bonus: the more is tried around a token, the more it is due."""
        spur = self._exploration * math.sqrt(math.log1p(sum(tried.values())))
        if not spur:
            return likely
        return {token: share + spur / math.sqrt(1 + tried.get(token, 0)) for token, share in likely.items()}


def _mixed(pair: Followers | None, single: Followers | None) -> dict[int, float]:
    """Probabilities after two tokens, those after the last one filling in where little is known of both."""
    mixed: dict[int, float] = {}
    if single:
        scale = BACKOFF / sum(single.seen.values())
        mixed = {token: scale * count for token, count in single.seen.items()}
    if pair:
        for token, count in pair.seen.items():
            mixed[token] = mixed.get(token, 0.0) + count
    total = sum(mixed.values())
    return {token: count / total for token, count in mixed.items()}
