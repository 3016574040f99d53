"""Which sessions there are: waiting for a place, running, or ended a while ago."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from paceline.engine.blocks import BlockPool
from paceline.engine.cache import Sequence as CacheSequence
from paceline.engine.runner import ModelRunner
from paceline.errors import OutOfBlocks
from verifier_service.counts import Counts
from verifier_service.record import Ended
from verifier_service.session import Session

TOMBSTONE_SECONDS = 60.0
MAX_TAIL = 257
"""The root and the largest ``max_draft_nodes``."""


@dataclass(frozen=True)
class Limits:
    """How much a verifier takes on."""

    max_sessions: int = 256
    max_waiting: int = 1024
    prefill_chunk: int = 256
    """Prompt tokens computed in a step, at most."""
    max_rows: int = 1024
    """Rows of a step: roots, prefill and nodes together."""


class SessionTable:
    """Owns the sessions and their sequences. Blocks are taken and given back only by the device's thread, which calls
    ``admit``, ``make_room`` and ``free``."""

    def __init__(self, runner: ModelRunner, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.running: dict[str, Session] = {}
        self.waiting: list[Session] = []
        """By rank: the next to be admitted comes first."""
        self._runner, self._clock = runner, clock
        self._arrivals = itertools.count()
        self._sessions: dict[str, Session] = {}
        self._tombstones: dict[str, float] = {}
        self._freed: list[CacheSequence] = []
        self.counts = Counts()

    @property
    def busy(self) -> bool:
        """Whether any session is running or waiting, or blocks are still to be freed."""
        return bool(self._sessions or self._freed)

    @property
    def pool(self) -> BlockPool:
        return self._runner.cache.pool

    @property
    def capacity(self) -> int:
        """Tokens of the longest text that fits the cache when it has it to itself."""
        return self.pool.num_blocks * self.pool.block_size

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def get(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    def by_rank(self) -> list[Session]:
        """Running sessions, the first to be served and the last to be preempted first."""
        return sorted(self.running.values(), key=_rank)

    # -- coming and going ----------------------------------------------------------------------------------------------

    def add(self, session: Session) -> None:
        """Queues a new session for admission."""
        self._tombstones.pop(session.session_id, None)
        self._sessions[session.session_id] = session
        session.arrival = next(self._arrivals)
        session.length_limit = min(session.length_limit, self.capacity)
        bisect.insort(self.waiting, session, key=_rank)

    def change_priority(self, session: Session, priority: int) -> None:
        """Lower is served earlier."""
        session.priority = priority
        self.waiting.sort(key=_rank)

    def forget(self, session: Session) -> None:
        """Takes an ended session out; its blocks go back once no step is using them."""
        if self._sessions.pop(session.session_id, None) is not None:
            self.counts.over(session)
        self.running.pop(session.session_id, None)
        if session in self.waiting:
            self.waiting.remove(session)
        self._bury(session.session_id)
        session.record.add(Ended(self._clock()))
        if not session.in_flight:
            self.release(session)

    def release(self, session: Session) -> None:
        """Gives a session's blocks back before the next step."""
        if session.sequence is not None:
            self._freed.append(session.sequence)
            session.sequence = None

    def ended_lately(self, session_id: str) -> bool:
        """Whether what still comes for this session is late rather than early."""
        return session_id in self._tombstones

    # -- blocks --------------------------------------------------------------------------------------------------------

    def free(self) -> None:
        for sequence in self._freed:
            sequence.close()
        self._freed.clear()

    def admit(self) -> list[Session]:
        """Takes waiting sessions in, by rank, for as long as there are blocks for all of their text so far.

        What of it lies in the cache already is taken over. A block is left to each running session to go on with.
        """
        admitted = []
        while self.waiting and len(self.running) < self.limits.max_sessions:
            session = self.waiting[0]
            sequence = self._runner.open(MAX_TAIL, session.tokens, session.keys)
            missing = -(-len(session.tokens) // self.pool.block_size) - len(sequence.block_table)
            if missing + len(self.running) > self.pool.free:
                sequence.close()
                break
            session.sequence = sequence
            self.running[session.session_id] = self.waiting.pop(0)
            admitted.append(session)
        return admitted

    def make_room(self, session: Session, rows: int) -> bool:
        """Makes room for ``rows`` more rows, if need be by preempting sessions of lower rank; whether there is room."""
        sequence = session.sequence
        while sequence is not None:
            try:
                sequence.reserve(sequence.length + rows)
            except OutOfBlocks:
                youngest = max(self.running.values(), key=_rank)
                if youngest is session:
                    return False
                self._preempt(youngest)
            else:
                return True
        return False

    def _preempt(self, session: Session) -> None:
        """Takes a session's blocks; its text stays, and what was computed for it is computed again later."""
        assert session.sequence is not None, "running sessions have one"
        session.sequence.close()
        session.sequence = None
        session.stay.preempted(self._clock())
        self.counts.preemptions += 1
        del self.running[session.session_id]
        bisect.insort(self.waiting, session, key=_rank)

    def _bury(self, session_id: str) -> None:
        now = self._clock()
        self._tombstones[session_id] = now + TOMBSTONE_SECONDS
        while self._tombstones:
            oldest = next(iter(self._tombstones))
            if self._tombstones[oldest] > now:
                break
            del self._tombstones[oldest]


def _rank(session: Session) -> tuple[int, int]:
    return session.priority, session.arrival
