"""What scripted drafters do: whose guesses they take, and what becomes of them on the way to the verifier.

A script is spoken over a real ``Speculate`` stream by a real drafter, so that gateways attach it and verifiers let it
in; only what it says of its nodes is not what a drafter should say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from drafter_service.session import DraftSession
from paceline import wire
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.merge import MAX_ENTRIES

Update = wire.verifier.DraftUpdate
Nodes = wire.verifier.DraftNodes
Updates = AsyncIterator[Update]
Alteration = Callable[[Updates], Updates]

HELD_BACK, REPEATED, HUGE = 16, 8, 100_000
LIKELY, SURE = -0.7, 0.0


class GuessingKind:
    """Grows random trees and is as sure of every node as it is told to be; nothing teaches it better."""

    name = "guessing"
    wants_candidates = True

    def __init__(self, vocabulary_size: int, log_score: float = LIKELY, chains: int = 10, depth: int = 3) -> None:
        self._vocabulary_size, self._log_score = vocabulary_size, log_score
        self._chains, self._depth = chains, depth
        self._random = np.random.default_rng(0)

    def open(self, session: DraftSession) -> None: ...

    def advance(self, session: DraftSession) -> None: ...

    def rewind(self, session: DraftSession, length: int) -> None: ...

    def close(self, session: DraftSession) -> None: ...

    def stop(self) -> None: ...

    def learn(
        self, session: DraftSession, candidates: Sequence[Sequence[int]], beside: Sequence[NodeCandidates] = ()
    ) -> None: ...

    def growable(self, session: DraftSession) -> bool:
        return session.tree.size < self._depth

    def grow(self, sessions: Sequence[DraftSession]) -> None:
        for session in sessions:
            chains = self._random.integers(self._vocabulary_size, size=(self._chains, self._depth)).tolist()
            for chain in chains:
                node = session.tree.root
                for token_id in chain:
                    node = session.add(node, token_id, self._log_score)


# -- what becomes of messages ------------------------------------------------------------------------------------------


async def unaltered(updates: Updates) -> Updates:
    async for update in updates:
        yield update


async def silent(updates: Updates) -> Updates:
    """It lets itself be attached and says no more, not even that it has nothing to say."""
    async for update in updates:
        yield Update(joins=update.joins, leaves=update.leaves)


async def stale(updates: Updates) -> Updates:
    """Nodes come so late that the text has long passed them."""
    held: deque[Update] = deque()
    async for update in updates:
        if update.nodes:
            held.append(Update(nodes=update.nodes))
            del update.nodes[:]
        yield update
        if len(held) > HELD_BACK:
            yield held.popleft()


async def duplicate(updates: Updates) -> Updates:
    """Everything is said again and again."""
    async for update in updates:
        for _ in range(REPEATED):
            yield update


async def unframed(updates: Updates) -> Updates:
    """More entries in a message than there may be: the verifier ends the stream."""
    async for update in updates:
        yield update
        if update.nodes:
            yield Update(leaves=[wire.verifier.Leave(session_id="nobody")] * (MAX_ENTRIES + 1))


def each(alter: Callable[[Nodes], None]) -> Alteration:
    """An alteration of every session's nodes."""

    async def altered(updates: Updates) -> Updates:
        async for update in updates:
            for nodes in update.nodes:
                alter(nodes)
            yield update

    return altered


def _lying(nodes: Nodes) -> None:
    nodes.log_scores_f32 = bytes(len(nodes.log_scores_f32))  # a score of 0: certain
    nodes.idle_seconds = nodes.busy_seconds = 0.0


def _cyclic(nodes: Nodes) -> None:
    ids = nodes.first_node_id + np.arange(len(nodes.token_ids_u32) // 4)
    nodes.parent_ids_u64 = np.roll(ids, 1).astype("<u8").tobytes()


def _huge(nodes: Nodes) -> None:
    times = HUGE // max(1, len(nodes.token_ids_u32) // 4)
    for column in ("token_ids_u32", "parent_ids_u64", "log_scores_f32"):
        setattr(nodes, column, getattr(nodes, column) * times)


def _nan(nodes: Nodes) -> None:
    nodes.log_scores_f32 = np.full(len(nodes.log_scores_f32) // 4, np.nan, "<f4").tobytes()


def _unreadable(nodes: Nodes) -> None:
    nodes.token_ids_u32 += b"\0"


@dataclass(frozen=True)
class Script:
    """``guesses``: whose; an honest drafter's, if they are to be any good."""

    guesses: str
    alteration: Alteration = unaltered
    floods: bool = False
    """Whether it says its last words over and over, as fast as they are taken."""


HONEST, GUESSING = "honest", "guessing"
SCRIPTS: dict[str, Script] = {
    "perfect": Script(HONEST),
    "random": Script(GUESSING),
    "stale": Script(HONEST, stale),
    "duplicate": Script(HONEST, duplicate),
    "cyclic": Script(GUESSING, each(_cyclic)),
    "huge": Script(GUESSING, each(_huge)),
    "lying": Script(GUESSING, each(_lying)),
    "nan": Script(GUESSING, each(_nan)),
    "silent": Script(GUESSING, silent),
    "flooding": Script(GUESSING, floods=True),
    "unreadable": Script(GUESSING, each(_unreadable)),
    "unframed": Script(GUESSING, unframed),
}
