"""A mailbox loses no token, keeps next to nothing, and waits for nobody."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.mailbox import MAX_DRAFTING_EVENTS, MAX_UNREAD, Mailbox
from gateway.workers import lost_event
from paceline.errors import Unavailable
from paceline.messages import CommittedTokens, FinishReason, NodesArrived, OverlapStatistics, SessionEvent, Usage
from paceline.speculation.logprobs import TokenLogprobs


def said(position: int, *tokens: int, **more: object) -> SessionEvent:
    logprobs = tuple(TokenLogprobs(-float(token), ()) for token in tokens)
    committed = CommittedTokens(position, tokens, position, logprobs, tuple((f"d{token}",) for token in tokens))
    return SessionEvent("s", 1, committed=committed, **more)  # type: ignore[arg-type]


END = SessionEvent("s", 1, finish_reason=FinishReason.LENGTH, usage=Usage(3, 9))


async def read(mailbox: Mailbox) -> list[SessionEvent]:
    events = [await mailbox.get()]
    while not events[-1].last:
        events.append(await mailbox.get())
    return events


@pytest.mark.parametrize("seed", range(10))
async def test_however_slowly_it_is_read_the_text_is_whole(seed: int) -> None:
    chance, mailbox, events, position = random.Random(seed), Mailbox(), list[SessionEvent](), 0
    for _ in range(500):
        tokens = [chance.randrange(9) for _ in range(chance.randrange(1, 4))]
        mailbox.put_nowait(said(position, *tokens))
        position += len(tokens)
        assert mailbox.unread <= MAX_UNREAD
        if chance.random() < 0.02:
            events.append(await mailbox.get())
    mailbox.put_nowait(END)
    events += await read(mailbox)
    parts = [event.committed for event in events if event.committed]
    length = 0
    for part in parts:
        assert part.position == length
        assert part.logprobs == tuple(TokenLogprobs(-float(token), ()) for token in part.token_ids)
        assert part.drafters == tuple((f"d{token}",) for token in part.token_ids)
        length += len(part.token_ids)
    assert length == position == mailbox.tokens
    assert len(events) < 50
    assert (events[-1].finish_reason, events[-1].usage) == (FinishReason.LENGTH, Usage(3, 9))


async def test_totals_are_the_latest_and_what_happened_is_kept() -> None:
    mailbox = Mailbox()
    for steps in (1, 2):
        mailbox.put_nowait(said(0, overlap=OverlapStatistics(steps=steps), events=(NodesArrived(steps, "d"),)))
    mailbox.put_nowait(said(0, 5))
    event = await mailbox.get()
    assert event.overlap == OverlapStatistics(steps=2)
    assert [drafting.at for drafting in event.events] == [1, 2]  # type: ignore[union-attr]


async def test_drafting_events_are_bounded() -> None:
    mailbox = Mailbox()
    for at in range(MAX_DRAFTING_EVENTS + 500):
        mailbox.put_nowait(SessionEvent("s", 1, events=(NodesArrived(at, "d"),)))
    kept = (await mailbox.get()).events
    assert len(kept) == MAX_DRAFTING_EVENTS
    assert kept[-1] == NodesArrived(MAX_DRAFTING_EVENTS + 499, "d")


async def test_a_lost_verifier_stands_alone() -> None:
    mailbox = Mailbox()
    for event in (said(0, 1), lost_event("s"), lost_event("s")):
        mailbox.put_nowait(event)
    first, second = await mailbox.get(), await mailbox.get()
    assert first.committed is not None
    assert (first.epoch, second.epoch, second.committed, mailbox.unread) == (1, 0, None, 0)


async def test_the_end_is_told_once_whether_or_not_anybody_reads() -> None:
    told: list[int] = []
    mailbox = Mailbox(told.append)
    for event in (said(0, 1, 2), END, END, said(2, 3)):
        mailbox.put_nowait(event)
    assert told == [2]
    (event,) = await read(mailbox)
    assert event.committed is not None
    assert event.committed.token_ids == (1, 2)


@pytest.mark.parametrize("in_time", [True, False])
async def test_a_reader_who_does_not_take_the_end_is_dropped(in_time: bool) -> None:  # noqa: FBT001 - a parameter
    reader = asyncio.create_task(asyncio.sleep(30))
    mailbox = Mailbox(reader=reader, patience_seconds=0.02)
    mailbox.put_nowait(END)
    if in_time:
        mailbox.close()
    await asyncio.wait([reader], timeout=0.1)
    assert reader.cancelled() is not in_time
    reader.cancel()


async def test_a_failure_is_heard_after_what_came_before_it() -> None:
    mailbox = Mailbox()
    mailbox.put_nowait(said(0, 1))
    mailbox.fail(Unavailable("stopping"))
    assert (await mailbox.get()).committed is not None
    for _ in range(2):
        with pytest.raises(Unavailable, match="stopping"):
            await mailbox.get()


async def test_a_reader_who_waits_already_hears_of_a_failure() -> None:
    mailbox = Mailbox()
    reading = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.fail(Unavailable("stopping"))
    with pytest.raises(Unavailable, match="stopping"):
        await asyncio.wait_for(reading, 5)
