"""A journal in Redis: any gateway can go on with any session.

Records that come while others are on their way go together with the next ones, in one command: a journal costs a
gateway one round trip per step, not one per session.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Sequence
from contextvars import Context
from typing import Any, TypeVar, cast

from redis.exceptions import RedisError

from paceline import wire
from paceline.cluster.journal import scripts
from paceline.cluster.journal.base import (
    KEPT_SECONDS,
    Entry,
    JournalAway,
    Kept,
    Outcome,
    Record,
    idempotency_name,
    without_hearsay,
)
from paceline.cluster.redis_client import Contact, connect, stop
from paceline.errors import FieldError
from paceline.logs import get_logger
from paceline.messages import JournaledSession

REPLY_SECONDS = 0.5
"""No step waits longer for the journal."""
PROBE_SECONDS = 0.25
"""Between two tries to reach it while it is away."""
BATCH = 256
"""Records in one command, at most."""
SESSION, EVENTS, NAME = "paceline:session:{}", "paceline:session:{}:events", "paceline:idempotency:{}"

logger = get_logger(__name__)

_OUTCOMES = {scripts.KEPT: Outcome.KEPT, scripts.TAKEN: Outcome.TAKEN, scripts.LOST: Outcome.LOST}
_Waiting = tuple[Record, "asyncio.Future[Outcome]"]
ReplyT = TypeVar("ReplyT")


class RedisJournal:
    """One for each gateway. While Redis is away nothing waits for it: a session whose record it did not take is lost
    to it for good, new ones are kept once it is back."""

    def __init__(self, url: str, kept_seconds: float = KEPT_SECONDS) -> None:
        self._kept_ms = int(kept_seconds * 1000)
        self._redis = connect(url, REPLY_SECONDS)
        self._contact = Contact(logger, url, "answers cannot be resumed")
        self._create, self._append = (self._redis.register_script(s) for s in (scripts.CREATE, scripts.APPEND))
        self._read, self._take = (self._redis.register_script(s) for s in (scripts.READ, scripts.TAKE))
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self.outages = 0

    @property
    def away(self) -> bool:
        """Whether it is known to be."""
        return self._probe is not None

    async def close(self) -> None:
        for task in (self._writer, self._probe):
            if task is not None:
                await stop(task)
        for _, outcome in self._waiting:
            outcome.cancel()
        await self._redis.aclose()

    async def create(self, session: JournaledSession, idempotency_key: str = "") -> Kept:
        session_id, epoch = session.opening.session_id, session.opening.epoch
        keys = _keys(session_id)
        if idempotency_key:
            keys += (NAME.format(idempotency_name(session.caller, idempotency_key)),)
        arguments = (self._kept_ms, session_id, epoch, wire.to_journaled(session), SESSION.format(""))
        known: bytes = await self._ask(self._create(keys, arguments))
        return Kept(known.decode(), new=known.decode() == session_id)

    async def append(self, record: Record) -> Outcome:
        if self.away:
            return Outcome.LOST
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, outcome))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), context=Context())  # for all sessions, not for one
        return await outcome

    async def read(self, session_id: str) -> Entry | None:
        return _entry(await self._ask(self._read(_keys(session_id))))

    async def take(self, session_id: str, epoch: int | None = None) -> Entry | None:
        arguments = (self._kept_ms, "" if epoch is None else epoch)
        return _entry(await self._ask(self._take(_keys(session_id), arguments)))

    # -- writing -------------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Until nothing waits."""
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            try:
                outcomes = [_OUTCOMES[code] for code in await self._send([record for record, _ in batch])]
            except JournalAway:
                outcomes = [Outcome.LOST] * len(batch)
            except Exception:
                logger.exception("unexpected failure in appending", records=len(batch))
                outcomes = [Outcome.LOST] * len(batch)
            for (_, waiter), outcome in zip(batch, outcomes, strict=True):
                if not waiter.done():
                    waiter.set_result(outcome)

    async def _send(self, records: Sequence[Record]) -> list[int]:
        keys, arguments = list[str](), list[Any]([self._kept_ms])
        for record in records:
            keys += _keys(record.session_id)
            event = wire.to_journaled_event(without_hearsay(record.event))
            arguments += (record.epoch, record.length, record.length + record.tokens, event)
        return cast("list[int]", await self._ask(self._append(keys, arguments)))

    # -- being there, being away ---------------------------------------------------------------------------------------

    async def _ask(self, reply: Awaitable[ReplyT]) -> ReplyT:
        if self.away:
            cast("Any", reply).close()
            raise JournalAway("the journal is away: answers cannot be resumed now")
        try:
            return await reply
        except (RedisError, OSError) as error:
            self._lost(error)
            raise JournalAway("the journal does not answer: answers cannot be resumed now") from error

    def _lost(self, error: Exception) -> None:
        self._contact.lost(error)
        if self._probe is None:
            self._probe = asyncio.create_task(self._look_again(), context=Context())
            self.outages += 1
            self._probe = asyncio.create_task(self._look_again())

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS * (1 + secrets.randbelow(100) / 200))
            try:
                await cast("Awaitable[Any]", self._redis.ping())
            except (RedisError, OSError):
                continue
            self._contact.back()
            self._probe = None
            return


def _keys(session_id: str) -> tuple[str, ...]:
    return SESSION.format(session_id), EVENTS.format(session_id)


def _entry(reply: Any) -> Entry | None:
    if reply is None:
        return None
    session, epoch, events = reply
    try:
        known = tuple(wire.from_journaled_event(event) for event in events)
        return Entry(wire.from_journaled(session), int(epoch), known)
    except FieldError as error:
        raise JournalAway(f"the journal holds what no gateway of this version has written: {error}") from error
