"""The rivals, round by round: what a round verifies, how long it takes, what it brings.

Each is tuned: for every number of running sessions it drafts as much as its closed form likes best.
alpha is the chance that a drafter's first child is the target's token; E the expected tokens of a round.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from paceline.experiments.closed_forms import chain_tokens, pearl_rows, pearl_tokens
from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.machines import Pool, Target

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32)
TREE_NODES = (4, 8, 12, 16, 24, 32, 48, 64)
TREE_DEPTHS = (2, 3, 4, 5, 6, 8, 10)
FAN_OUT = 5
"""Tokens after each place where a verdict may end that an outcome cache drafts on for."""


@dataclass
class Running:
    """A session that is decoding: the ranks of its answer's tokens, where it stands, what is in hand for it."""

    ranks: Sequence[int]
    position: int
    """Of the next token."""
    room: int
    """Tokens that it may still emit."""
    drafted: bool = False
    """PEARL: a window has begun well; outcome cache: the drafter had foreseen the last verdict."""

    def run(self, most: int) -> int:
        """How many of the coming tokens, one after the other, are a drafter's first children; at most ``most``."""
        ranks, start = self.ranks, self.position
        count = 0
        while count < most and ranks[start + count] == 1:
            count += 1
        return count


@dataclass(frozen=True)
class Draft:
    """A pool of drafters as a rival has it."""

    pool: Pool
    share: float = 1.0
    """Sessions at each drafter over sessions at each target: more than 1 where one drafter serves several."""
    round_trip_ms: float = 0.0

    @property
    def profile(self) -> Profile:
        return self.pool.profile

    @property
    def round_trip(self) -> float:
        return 1e-3 * self.round_trip_ms

    def seconds(self, depth: int, sessions: int, rows_each: float = 1.0) -> float:
        """Of drafting so deep for so many sessions of a target, with so many rows a level for each. A model makes a
        forward for each level, a look-up one for all."""
        there = max(1.0, sessions * self.share)
        if depth and self.pool.looks_up:
            return self.pool.seconds(there, there * rows_each * depth)
        return depth * self.pool.seconds(there, there * rows_each)


class Rival(Protocol):
    """One way of serving, on one target."""

    def rows(self, sessions: Sequence[Running]) -> int:
        """Rows of the round for these sessions; what it settles about the round holds until ``advance``."""
        ...

    def seconds(self, step: float, sessions: Sequence[Running]) -> float:
        """Of a round whose forward of the target takes ``step``."""
        ...

    def advance(self, session: Running) -> int:
        """Tokens that the round brings a session; its position is moved on by the caller."""
        ...


class Alone:
    """The target by itself."""

    def rows(self, sessions: Sequence[Running]) -> int:
        return len(sessions)

    def seconds(self, step: float, sessions: Sequence[Running]) -> float:
        return step

    def advance(self, session: Running) -> int:
        return 1


@dataclass(eq=False)
class Shape:
    """A fixed draft tree: children by rank, the nodes on each level, and the tokens it is expected to bring.

    Greedy by the likelihood of paths (Sequoia's dynamic program for independent ranks gives the same trees up to ties).
    """

    depth: int
    nodes: int
    expected: float
    children: list[dict[int, int]] = field(default_factory=list)

    @classmethod
    def best(cls, profile: Profile, nodes: int, depth: int, width: int) -> Shape:
        children: list[dict[int, int]] = [{}]
        expected, deepest = 1.0, 0
        heap: list[tuple[float, int, int, int, int]] = []

        def offer(parent: int, chance: float, level: int) -> None:
            for rank, p in enumerate(profile.ranks[:width], 1):
                if p > 0 and level <= depth:
                    heapq.heappush(heap, (-chance * p, level, parent, rank, len(heap)))

        offer(0, 1.0, 1)
        while heap and len(children) <= nodes:
            cost, level, parent, rank, _ = heapq.heappop(heap)
            index = len(children)
            children.append({})
            children[parent][rank] = index
            expected, deepest = expected - cost, max(deepest, level)
            offer(index, -cost, level + 1)
        return cls(deepest, len(children) - 1, expected, children)

    @property
    def rows_each(self) -> float:
        """Of a forward that drafts a level, on the average."""
        return self.nodes / self.depth if self.depth else 0.0

    def walk(self, session: Running) -> int:
        """Accepted nodes."""
        node, count, most = 0, 0, session.room - 1
        while count < most:
            child = self.children[node].get(session.ranks[session.position + count])
            if child is None:
                break
            node, count = child, count + 1
        return count


NOTHING = Shape(0, 0, 1.0, [{}])


class Colocated:
    """Draft and target in turn on the target's cards: ordinary speculative decoding, with the best chain or tree."""

    def __init__(self, target: Target, draft: Draft) -> None:
        self._target, self._draft = target, draft
        profile = draft.profile
        chains = [Shape.best(profile, length, length, 1) for length in LENGTHS]
        trees = [Shape.best(profile, nodes, depth, len(profile.ranks)) for nodes in TREE_NODES for depth in TREE_DEPTHS]
        self._shapes = [NOTHING, *chains, *trees]
        self._shape = NOTHING
        self.best = functools.cache(self._best)

    def _best(self, sessions: int) -> Shape:
        """The shape that brings most tokens per second for so many sessions."""
        return max(self._shapes, key=lambda shape: shape.expected / self._time(shape, sessions))

    def _time(self, shape: Shape, sessions: int) -> float:
        verify = self._target.seconds(sessions * (1 + shape.nodes))
        return verify + self._draft.seconds(shape.depth, sessions, shape.rows_each)

    def rows(self, sessions: Sequence[Running]) -> int:
        self._shape = self.best(len(sessions)) if sessions else NOTHING
        return sum(1 + min(self._shape.nodes, _most_nodes(self._shape, session)) for session in sessions)

    def seconds(self, step: float, sessions: Sequence[Running]) -> float:
        deepest = max((min(self._shape.depth, session.room - 1) for session in sessions), default=0)
        return step + self._draft.seconds(deepest, len(sessions), self._shape.rows_each)

    def advance(self, session: Running) -> int:
        return 1 + self._shape.walk(session)


def _most_nodes(shape: Shape, session: Running) -> int:
    """Towards the end of an answer what lies too deep is left out."""
    return shape.nodes if session.room > shape.depth else (session.room - 1) * max(1, shape.nodes // shape.depth)


class Pearl:
    """A drafter apart and a chain, overlapped (PEARL, arXiv 2408.11850; as nano-PEARL does it).

    Before anything is accepted the target verifies a window's first token while the window is drafted; then it verifies
    a window while the next one is drafted, for as long as all of it is accepted. A round lasts
    max(gamma t_d, t_V + RTT).
    """

    def __init__(self, target: Target, draft: Draft) -> None:
        self._target, self._draft = target, draft
        self._window = 0
        self.best = functools.cache(self._best)

    def _best(self, sessions: int) -> int:
        """The window gamma; 0: it is better not to draft."""
        return max((0, *LENGTHS), key=lambda window: self._speed(window, sessions))

    def _speed(self, window: int, sessions: int) -> float:
        if window == 0:
            return 1 / self._target.seconds(sessions)
        alpha = self._draft.profile.alpha
        verify = self._target.seconds(math.ceil(sessions * pearl_rows(alpha, window)))
        return pearl_tokens(alpha, window) / self._round(window, verify, sessions)

    def _round(self, window: int, verify: float, sessions: int) -> float:
        return max(self._draft.seconds(window, sessions), verify + self._draft.round_trip)

    def rows(self, sessions: Sequence[Running]) -> int:
        self._window = self.best(len(sessions)) if sessions else 0
        return sum(self._window if session.drafted and self._window else 1 for session in sessions)

    def seconds(self, step: float, sessions: Sequence[Running]) -> float:
        return self._round(self._window, step, len(sessions)) if self._window else step

    def advance(self, session: Running) -> int:
        if not self._window:
            session.drafted = False
            return 1
        most = min(self._window if session.drafted else 1, session.room)
        right = session.run(most)
        session.drafted = right == most
        return right if session.drafted else right + 1


class Outcomes:
    """A drafter apart that has drafted on for the likely verdicts when one comes (SSD, arXiv 2603.03251).

    A chain of K tokens is verified; meanwhile the drafter drafts K tokens for each of the ``FAN_OUT`` likeliest tokens
    after each place where the chain may end. A round lasts max(t_V + RTT, K t_d) if the verdict was among them. If not,
    either all wait for K forwards more, or that session's next step goes without drafts: whichever is better for so
    many sessions.
    """

    def __init__(self, target: Target, draft: Draft) -> None:
        self._target, self._draft = target, draft
        ranks = draft.profile.ranks
        self._after_miss = sum(ranks[1 : FAN_OUT + 1]) / (1 - ranks[0]) if ranks[0] < 1 else 1.0
        self._after_all = sum(ranks[:FAN_OUT])
        self._length, self._waits, self._missed = 0, False, 0
        self.best = functools.cache(self._best)

    def hit_rate(self, length: int) -> float:
        whole = self._draft.profile.alpha**length
        return whole * self._after_all + (1 - whole) * self._after_miss

    def _best(self, sessions: int) -> tuple[int, bool]:
        """The length K, and whether all wait after a miss."""
        options = [(0, False), *((length, waits) for length in LENGTHS for waits in (False, True))]
        return max(options, key=lambda option: self._speed(option[0], sessions, waits=option[1]))

    def _speed(self, length: int, sessions: int, *, waits: bool) -> float:
        if length == 0:
            return 1 / self._target.seconds(sessions)
        alpha, hit = self._draft.profile.alpha, self.hit_rate(length)
        draft, again = self._ahead(length, sessions), self._draft.seconds(length, sessions)
        tokens = chain_tokens(alpha, length)
        share = 1.0 if waits else hit
        rows = math.ceil(sessions * (1 + length * share))
        seconds = max(self._target.seconds(rows) + self._draft.round_trip, draft)
        if waits:
            return tokens / (seconds + (1 - hit**sessions) * again)
        return (hit * tokens + 1 - hit) / seconds

    def _ahead(self, length: int, sessions: int) -> float:
        """Seconds until all branches are drafted."""
        return self._draft.seconds(length, sessions, (length + 1) * FAN_OUT)

    def rows(self, sessions: Sequence[Running]) -> int:
        self._length, self._waits = self.best(len(sessions)) if sessions else (0, False)
        self._missed = 0 if not self._length else sum(not session.drafted for session in sessions)
        return sum(1 + self._drafts(session) for session in sessions)

    def _drafts(self, session: Running) -> int:
        return min(self._length, session.room - 1) if session.drafted or self._waits else 0

    def seconds(self, step: float, sessions: Sequence[Running]) -> float:
        if not self._length:
            return step
        draft = self._ahead(self._length, len(sessions))
        late = self._draft.seconds(self._length, self._missed) if self._waits and self._missed else 0.0
        return late + max(step + self._draft.round_trip, draft)

    def advance(self, session: Running) -> int:
        most = self._drafts(session)
        right = session.run(most)
        rank = session.ranks[session.position + right]
        foreseen = rank != 0 and (rank <= FAN_OUT + 1 if right < most else rank <= FAN_OUT)
        session.drafted = bool(self._length) and foreseen
        return right + 1
