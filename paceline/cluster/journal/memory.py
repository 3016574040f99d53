"""A journal in the gateway's own memory: answers can be resumed here as long as the process lives."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from paceline.cluster.journal.base import KEPT_SECONDS, Entry, Kept, Outcome, Record, idempotency_name, without_hearsay
from paceline.messages import JournaledSession, SessionEvent

MAX_TOKENS = 16 << 20
"""Of prompts and texts together, about 300 MB; then the sessions that were silent longest are forgotten."""


@dataclass
class _Known:
    session: JournaledSession
    epoch: int
    touched_at: float
    idempotency: str
    length: int = 0
    events: list[SessionEvent] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return len(self.session.opening.token_ids) + self.length

    def entry(self) -> Entry:
        return Entry(self.session, self.epoch, tuple(self.events))


class MemoryJournal:
    """Never away; bounded by tokens and by time."""

    away, outages = False, 0

    def __init__(
        self,
        kept_seconds: float = KEPT_SECONDS,
        max_tokens: int = MAX_TOKENS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept_seconds, self._max_tokens, self._clock = kept_seconds, max_tokens, clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        """The one that was silent longest comes first."""
        self._names: dict[str, str] = {}
        self._tokens = 0

    async def create(self, session: JournaledSession, idempotency_key: str = "") -> Kept:
        self._forget()
        session_id, name = session.opening.session_id, ""
        if idempotency_key:
            name = idempotency_name(session.caller, idempotency_key)
            if name in self._names:
                return Kept(self._names[name], new=False)
            self._names[name] = session_id
        known = _Known(session, session.opening.epoch, self._clock(), name)
        self._known[session_id] = known
        self._tokens += known.tokens
        return Kept(session_id, new=True)

    async def append(self, record: Record) -> Outcome:
        known = self._known.get(record.session_id)
        if known is None:
            return Outcome.LOST
        if known.epoch != record.epoch or known.length != record.length:
            return Outcome.TAKEN
        known.events.append(without_hearsay(record.event))
        known.length += record.tokens
        self._tokens += record.tokens
        self._touch(record.session_id, known)
        self._forget()
        return Outcome.KEPT

    async def read(self, session_id: str) -> Entry | None:
        self._forget()
        known = self._known.get(session_id)
        return known.entry() if known else None

    async def take(self, session_id: str, epoch: int | None = None) -> Entry | None:
        self._forget()
        known = self._known.get(session_id)
        if known is None or epoch not in (None, known.epoch):
            return None
        known.epoch += 1
        self._touch(session_id, known)
        return known.entry()

    async def close(self) -> None:
        self._known.clear()
        self._names.clear()
        self._tokens = 0

    def _touch(self, session_id: str, known: _Known) -> None:
        known.touched_at = self._clock()
        self._known.move_to_end(session_id)

    def _forget(self) -> None:
        """What is too old, and what is too much."""
        oldest = self._clock() - self._kept_seconds
        while self._known:
            session_id, known = next(iter(self._known.items()))
            if known.touched_at > oldest and self._tokens <= self._max_tokens:
                return
            del self._known[session_id]
            self._names.pop(known.idempotency, None)
            self._tokens -= known.tokens
