"""What drafters without a model have in common: they look up how a text may go on, once for each root.

A kind knows where a text stands in what it remembers (``begin``) and what followed there (``follow``); the tree is
grown here, best first, and what was guessed is held against the text, so that its estimates become true.
"""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from drafter_service.drafters.scopes import PerTarget
from drafter_service.session import DraftSession
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.estimate import HitRates
from paceline.speculation.tree import Node, State

PlaceT = TypeVar("PlaceT")

MAX_NODES = 32
"""Nodes proposed for a root, at most."""
FLOOR = math.log(0.01)
"""Paths less likely than this are not followed."""


class Branch(NamedTuple, Generic[PlaceT]):
    """One token that may come next, its share of the evidence, and the place that it leads to."""

    token_id: int
    share: float
    place: PlaceT


class Branches(NamedTuple, Generic[PlaceT]):
    """What may follow a place, shares adding up to at most 1.

    ``strength`` tells kinds of evidence apart, by a small number: how often each comes true is learned.
    """

    strength: int
    branches: Sequence[Branch[PlaceT]]


@dataclass
class _Followed:
    """A session: how much of its text is indexed, the root last proposed for, and guesses that are not tested yet."""

    length: int
    proposed_at: int = -1
    guesses: dict[Node, tuple[int, frozenset[int]]] = field(default_factory=dict)


class LookupDrafter(ABC, Generic[PlaceT]):
    """A look-up drafter; see ``DraftKind`` for the calls."""

    name: str
    wants_candidates = False

    def __init__(self, priors: Sequence[float]) -> None:
        """``priors``: how often evidence of strength 0, 1, … comes true, as far as is known beforehand."""
        self._rates = PerTarget(lambda: HitRates(priors))
        self._followed: dict[str, _Followed] = {}

    # -- what a kind adds ----------------------------------------------------------------------------------------------

    @abstractmethod
    def begin(self, session: DraftSession) -> PlaceT | None:
        """Where the text of a session stands; None: nothing is known of it."""

    @abstractmethod
    def follow(self, place: PlaceT) -> Branches[PlaceT] | None:
        """What may come after a place; None: nothing is known."""

    def opened(self, session: DraftSession) -> None:
        """A session begins, or its text was replaced."""

    def extended(self, session: DraftSession, token_ids: Sequence[int]) -> None:
        """These tokens were committed to its text."""

    def closed(self, session: DraftSession) -> None:
        """It is over."""

    def learn(
        self, session: DraftSession, candidates: Sequence[Sequence[int]], beside: Sequence[NodeCandidates] = ()
    ) -> None:
        """The target's best tokens at the last positions of the text and beside it; for kinds that want them."""

    def stop(self) -> None:
        """Nothing is kept unless a kind says so."""

    # -- the calls of a DraftKind --------------------------------------------------------------------------------------

    def open(self, session: DraftSession) -> None:
        self._followed[session.session_id] = _Followed(len(session.tokens))
        self.opened(session)

    def close(self, session: DraftSession) -> None:
        if self._followed.pop(session.session_id, None):
            self.closed(session)

    def rewind(self, session: DraftSession, length: int) -> None:
        self.open(session)  # it is not over: nothing that was committed is heard of as finished

    def advance(self, session: DraftSession) -> None:
        followed = self._followed[session.session_id]
        new, followed.length = session.tokens[followed.length :], len(session.tokens)
        self._test(session, followed)
        self.extended(session, new)

    def growable(self, session: DraftSession) -> bool:
        """Once per root: nothing new is known before the next token."""
        return self._followed[session.session_id].proposed_at != session.tree.root.position

    def grow(self, sessions: Sequence[DraftSession]) -> None:
        for session in sessions:
            followed = self._followed[session.session_id]
            followed.proposed_at = session.tree.root.position
            self._propose(session, followed)

    # -- growing and learning ------------------------------------------------------------------------------------------

    def _propose(self, session: DraftSession, followed: _Followed) -> None:
        """Best first over what may follow, up to ``MAX_NODES``."""
        place = self.begin(session)
        if place is None:
            return
        rates, deepest, count = self._rates.of(session), session.max_position, 0
        heap = [(0.0, count, session.tree.root, place)]
        while heap and count < MAX_NODES:
            cost, _, node, place = heapq.heappop(heap)
            found = self.follow(place) if node.position < deepest else None
            if found is None:
                continue
            rate, branches = rates.rate(found.strength), found.branches[: session.width]
            followed.guesses[node] = found.strength, frozenset(branch.token_id for branch in branches)
            for token_id, share, further in branches:
                log_score, known = math.log(rate * share), token_id in node.children
                full = count >= MAX_NODES or (not known and len(node.children) >= session.width)
                if full or log_score - cost < FLOOR:
                    continue
                count += 1
                child = session.add(node, token_id, log_score)
                heapq.heappush(heap, (cost - log_score, count, child, further))

    def _test(self, session: DraftSession, followed: _Followed) -> None:
        """Holds guesses along the text against it."""
        rates, waiting = self._rates.of(session), dict[Node, tuple[int, frozenset[int]]]()
        for node, (strength, tokens) in followed.guesses.items():
            if node.state is State.LIVE or node is session.tree.root:
                waiting[node] = strength, tokens
            elif node.state is State.COMMITTED:
                rates.add(strength, hit=session.tokens[node.position + 1] in tokens)
        followed.guesses = waiting
