"""What every journal keeps and promises."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from paceline.errors import Unavailable
from paceline.messages import JournaledSession, SessionEvent

KEPT_SECONDS = 600.0
"""A session is kept for so long after its last word."""


class Outcome(Enum):
    """What became of an append."""

    KEPT = "kept"
    TAKEN = "taken"
    """The session has gone on elsewhere."""
    LOST = "lost"
    """The journal is away, or no longer knows the session: it cannot be resumed from now on."""


@dataclass(frozen=True)
class Record:
    """Something to append: what a verifier has told of a session that had ``length`` tokens before."""

    session_id: str
    epoch: int
    length: int
    event: SessionEvent

    @property
    def tokens(self) -> int:
        return len(self.event.committed.token_ids) if self.event.committed else 0


@dataclass(frozen=True)
class Entry:
    """A session as the journal knows it."""

    session: JournaledSession
    epoch: int
    events: tuple[SessionEvent, ...]
    """What was committed, in order."""

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].last


@dataclass(frozen=True)
class Kept:
    """How a new session was received: under its own name, or as one that its idempotency key stands for already."""

    session_id: str
    new: bool


class JournalAway(Unavailable):
    """The journal cannot be asked now."""


class Journal(Protocol):
    """Bounded in time and size. ``append`` never raises and never waits long; the others raise ``JournalAway``."""

    @property
    def away(self) -> bool:
        """Whether it is known to be."""
        ...

    @property
    def outages(self) -> int:
        """How often it went away."""
        ...

    async def create(self, session: JournaledSession, idempotency_key: str = "") -> Kept:
        """Keeps a new session with its opening's epoch, unless its caller has used the key for another one."""
        ...

    async def append(self, record: Record) -> Outcome:
        """Compare-and-append on epoch and length; asking twice appends once."""
        ...

    async def read(self, session_id: str) -> Entry | None:
        """None: unknown, or forgotten by now."""
        ...

    async def take(self, session_id: str, epoch: int | None = None) -> Entry | None:
        """Makes the session the caller's, with the next epoch; None if there is no such session, or if ``epoch`` is
        given and is no longer the session's."""
        ...

    async def close(self) -> None: ...


def idempotency_name(caller: str, key: str) -> str:
    """What a caller's key is kept under; nobody can make up another caller's."""
    return hashlib.sha256(f"{len(caller)}:{caller}{key}".encode(errors="surrogatepass")).hexdigest()


def without_hearsay(event: SessionEvent) -> SessionEvent:
    """The part of an event that the text depends on, and how it ended."""
    kept = event.overlap if event.last else None
    return SessionEvent(
        session_id="",
        epoch=event.epoch,
        committed=event.committed,
        finish_reason=event.finish_reason,
        usage=event.usage,
        overlap=kept,
        detail=event.detail,
    )
