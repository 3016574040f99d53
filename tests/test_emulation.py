"""Emulated time is at least what was asked for, and nothing is lost or overtaken on an emulated wire."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from paceline.emulation import EmulatedLink, Pace
from paceline.speculation.fields import FieldError


def test_a_forward_takes_the_larger_of_its_own_and_the_given_time() -> None:
    pace = Pace.parse("20ms,per_row=1ms")
    assert pace is not None
    started = time.perf_counter()
    pace.hold(started, rows=6)
    assert time.perf_counter() - started >= 0.025
    pace.hold(started - 1.0, rows=1)
    assert (pace.forwards, pace.missed) == (2, 1)
    assert Pace.parse("") is None


def test_messages_arrive_in_order_after_half_a_round_trip_and_their_own_length() -> None:
    wire = EmulatedLink.parse("rtt=10ms,jitter=2ms,bandwidth=8mbps")
    assert wire is not None
    arrivals = [wire.arrival(now=0.001 * index, size_bytes=1000) for index in range(50)]
    assert all(later - earlier >= 0.001 - 1e-9 for earlier, later in itertools.pairwise(arrivals))
    assert 0.006 <= arrivals[0] <= 0.008 + 1e-9
    back = wire.other_direction()
    assert back.arrival(0.0, 0) < arrivals[-1]
    assert EmulatedLink.parse("") is None


async def test_a_wire_carries_everything_and_what_ends_it() -> None:
    async def source() -> AsyncIterator[int]:
        for item in range(20):
            yield item
        raise ConnectionError("broken")

    found: list[int] = []

    async def receive() -> None:
        async for item in EmulatedLink(rtt_seconds=0.04).carry(source(), lambda _: 0):
            found.append(item)  # noqa: PERF401 - what came before the end counts

    started = asyncio.get_running_loop().time()
    with pytest.raises(ConnectionError, match="broken"):
        await receive()
    assert found == list(range(20))
    assert asyncio.get_running_loop().time() - started >= 0.019


@pytest.mark.parametrize(
    ("text", "says"),
    [("fast", "fast"), ("40", "a time such as"), ("40ms,rows=2", "per_row="), ("40ms,per_row=x", "a time such as")],
)
def test_a_pace_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(FieldError, match=says):
        Pace.parse(text)


@pytest.mark.parametrize("text", ["5ms", "rtt=5", "rtt=5ms,bandwidth=fast", "delay=3ms"])
def test_a_wire_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(FieldError):
        EmulatedLink.parse(text)
