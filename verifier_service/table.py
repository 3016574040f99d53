"""Which sessions there are: waiting for blocks, running, or ended a while ago."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from paceline.engine.cache import BlockPool
from paceline.engine.cache import Sequence as CacheSequence
from paceline.engine.runner import ModelRunner
from verifier_service.session import Session

TOMBSTONE_SECONDS = 60.0
MAX_TAIL = 257
"""The root and the largest ``max_draft_nodes``."""


@dataclass(frozen=True)
class Limits:
    """How much a verifier takes on."""

    max_sessions: int = 64
    max_waiting: int = 256
    prefill_chunk: int = 256
    max_rows: int = 1024
    """Rows of running sessions in a step, roots and nodes together."""


class SessionTable:
    """Owns the sessions and their sequences. Blocks are taken and given back only in ``admit`` and ``free``, which
    the device's thread calls."""

    def __init__(self, runner: ModelRunner, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.running: dict[str, Session] = {}
        self.waiting: deque[Session] = deque()
        self._runner, self._clock = runner, clock
        self._sessions: dict[str, Session] = {}
        self._tombstones: dict[str, float] = {}
        self._freed: list[CacheSequence] = []

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
        return self.pool.num_blocks * self.pool.block_size - MAX_TAIL

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def get(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    def add(self, session: Session) -> None:
        """Queues a new session for admission."""
        self._tombstones.pop(session.session_id, None)
        self._sessions[session.session_id] = session
        self.waiting.append(session)

    def forget(self, session: Session) -> None:
        """Takes an ended session out; its blocks go back once no step is using them."""
        self._sessions.pop(session.session_id, None)
        self.running.pop(session.session_id, None)
        if session in self.waiting:
            self.waiting.remove(session)
        self._bury(session.session_id)
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

    def free(self) -> None:
        for sequence in self._freed:
            sequence.close()
        self._freed.clear()

    def admit(self) -> list[Session]:
        """Takes waiting sessions in, oldest first, for as long as all their blocks can be reserved."""
        admitted = []
        while self.waiting and len(self.running) < self.limits.max_sessions:
            session = self.waiting[0]
            length = min(session.length_limit, self.capacity)
            if -(-(length + MAX_TAIL) // self.pool.block_size) > self.pool.free:
                break
            session.length_limit = length
            session.sequence = self._runner.open(length + MAX_TAIL, MAX_TAIL)
            self.running[session.session_id] = self.waiting.popleft()
            admitted.append(session)
        return admitted

    def _bury(self, session_id: str) -> None:
        now = self._clock()
        self._tombstones[session_id] = now + TOMBSTONE_SECONDS
        while self._tombstones:
            oldest = next(iter(self._tombstones))
            if self._tombstones[oldest] > now:
                break
            del self._tombstones[oldest]
