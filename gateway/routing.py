"""Which verifier gets a session: one that holds the beginning of its prompt already, unless it is too busy.

The favourite is whoever was lately given the longest beginning of this prompt; if nobody was, it is settled by a hash
that all gateways and restarts agree on (rendezvous hashing, Thaler and Ravishankar 1998), so that it moves only for
prompts of verifiers that come or go. The favourite is passed over while its load exceeds ``BUSIER`` times the least
load and ``SLACK`` of a verifier: a prompt is computed again sooner than it waits behind others.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCK_TOKENS = 16
"""Verifiers share whole blocks of so many tokens."""
BUSIER, SLACK = 1.5, 0.25
"""Loads are shares of a verifier's capacity: of 256 sessions, 64 more than elsewhere are borne, or half again."""
HASHED_BLOCKS = 4
"""A prompt that nobody has begun is placed by so many of its first blocks."""
REMEMBERED, HOLDERS = 1 << 16, 4
"""Beginnings remembered, and verifiers for each: the latest."""


@dataclass(frozen=True)
class Candidate:
    """A verifier that could take the session: everybody's sessions there, and how many it takes."""

    name: str
    sessions: int
    capacity: int

    @property
    def load(self) -> float:
        return self.sessions / self.capacity if self.capacity else float("inf")


@dataclass(frozen=True)
class Beginning:
    """The first ``blocks`` blocks of a prompt within a cache scope."""

    blocks: int
    digest: bytes


def beginnings(token_ids: Sequence[int], scope: str) -> tuple[Beginning, ...]:
    """Beginnings of a prompt, shortest first: 1, 2, 3, 4, 6, 8, 12, … blocks, and all of its whole blocks.

    Equal ones have equal tokens and scopes, in every process.
    """
    whole = len(token_ids) // BLOCK_TOKENS
    columns = np.asarray(token_ids[: whole * BLOCK_TOKENS], "<u4")
    running, found, before = hashlib.blake2b(scope.encode(), digest_size=16, person=b"paceline routes"), [], 0
    for blocks in _depths(whole):
        running.update(columns[before * BLOCK_TOKENS : blocks * BLOCK_TOKENS].tobytes())
        found.append(Beginning(blocks, running.copy().digest()))
        before = blocks
    return tuple(found)


def rendezvous(digest: bytes, candidates: Sequence[Candidate]) -> Candidate:
    """Whose hash together with the prompt's is the largest."""
    return max(candidates, key=lambda c: hashlib.blake2b(digest + c.name.encode(), digest_size=8).digest())


def choose(
    prompt: Sequence[Beginning], candidates: Sequence[Candidate], holders: dict[bytes, tuple[str, ...]] | None = None
) -> Candidate:
    """One of the candidates, of which there is at least one; ``holders``: who was given which beginnings.

    Laws: nobody whose load is over ``BUSIER`` times the least and ``SLACK`` is chosen, nor anybody full while another
    is not; between those that hold as much, the least busy; with nobody busy and nothing remembered, the same choice
    everywhere.
    """
    least = min(candidate.load for candidate in candidates)
    limit = max(BUSIER * least, least + SLACK)
    open_ = [c for c in candidates if c.load <= limit and (c.load < 1.0 or least >= 1.0)]
    for beginning in reversed(prompt):
        holding = [c for c in open_ if c.name in (holders or {}).get(beginning.digest, ())]
        if holding:
            return min(holding, key=lambda candidate: (candidate.load, candidate.name))
    hashed = [beginning for beginning in prompt if beginning.blocks <= HASHED_BLOCKS]
    if hashed:
        favourite = rendezvous(hashed[-1].digest, candidates)
        if favourite in open_:
            return favourite
    return min(candidates, key=lambda candidate: (candidate.load, candidate.name))


class Router:
    """Chooses, and remembers who was given what."""

    def __init__(self) -> None:
        self._holders: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()

    def route(self, token_ids: Sequence[int], scope: str, candidates: Sequence[Candidate]) -> str:
        """The name of the candidate that gets a session with this prompt."""
        prompt = beginnings(token_ids, scope)
        known = {b.digest: self._holders[b.digest] for b in prompt if b.digest in self._holders}
        chosen = choose(prompt, candidates, known).name
        for beginning in prompt:
            others = tuple(name for name in known.get(beginning.digest, ()) if name != chosen)
            self._holders[beginning.digest] = (*others, chosen)[-HOLDERS:]
            self._holders.move_to_end(beginning.digest)
        while len(self._holders) > REMEMBERED:
            self._holders.popitem(last=False)
        return chosen


def _depths(whole: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, …, and ``whole``: a logarithmic number of them."""
    powers = [1 << exponent for exponent in range(whole.bit_length() + 1)]
    depths = {depth for power in powers for depth in (power, power + power // 2) if depth <= whole}
    return sorted(depths | ({whole} if whole else set()))
