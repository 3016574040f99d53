"""How a service process is told to stop: with grace once, and then without."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from paceline import process


async def heard(*numbers: signal.Signals) -> process.Stop:
    """What a service hears of these signals to its process."""
    stops = list[process.Stop]()

    async def service(stop: process.Stop) -> None:
        for number in numbers:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.02)
        stops.append(stop)

    await process._supervise(service, exit_with_parent=False)
    return stops[0]


@pytest.mark.parametrize(
    ("numbers", "at_once"),
    [((signal.SIGTERM,), False), ((signal.SIGTERM, signal.SIGTERM), True), ((signal.SIGINT,), True)],
)
async def test_who_is_asked_to_stop_may_finish_unless_asked_twice_or_interrupted(
    numbers: tuple[signal.Signals, ...],
    at_once: bool,  # noqa: FBT001 - a parameter
) -> None:
    stop = await heard(*numbers)
    assert (stop.is_set(), stop.at_once.is_set()) == (True, at_once)


async def test_a_grace_ends_when_all_is_done_when_it_is_over_and_when_there_is_none() -> None:
    stop, turns = process.Stop(), iter([False, False, True])
    async with asyncio.timeout(5):
        await stop.grace(60, lambda: next(turns))
        await stop.grace(0.05, lambda: False)
        waiting = asyncio.create_task(stop.grace(60, lambda: False))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        stop.end()
        await waiting


async def test_a_failure_stops_a_service_at_once_and_is_no_success() -> None:
    stop = process.Stop()
    failure = process.Failure(stop)
    await asyncio.to_thread(failure.report, ValueError("broken"))
    await asyncio.wait_for(stop.at_once.wait(), 5)
    with pytest.raises(process.ServiceFailed):
        failure.check()
