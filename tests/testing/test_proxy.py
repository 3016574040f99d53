"""The fault proxy does what it says to bytes on their way, and both sides see it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from paceline import rpc
from paceline.testing.proxy import CLEAR, Direction, FaultProxy, Line, fault_proxy

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[tuple[FaultProxy, Pair]]:
    """A proxy before a server that says again what it hears, and a connection through it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with fault_proxy(f"127.0.0.1:{port}") as proxy:
        host, _, through = proxy.address.partition(":")
        pair = await asyncio.open_connection(host, int(through))
        yield proxy, pair
        pair[1].close()
    server.close()


async def say(pair: Pair, data: bytes) -> float:
    """Seconds until the echo is there."""
    started = time.monotonic()
    pair[1].write(data)
    assert await pair[0].readexactly(len(data)) == data
    return time.monotonic() - started


async def test_latency_holds_for_both_ways_and_ends_when_it_is_cleared() -> None:
    async with echoing() as (proxy, pair):
        await say(pair, b"warm")
        proxy.set(Line(latency_seconds=0.1))
        assert await say(pair, b"x" * 100_000) >= 0.2
        proxy.set(CLEAR)
        assert await say(pair, b"x" * 100_000) < 0.1


async def test_nothing_overtakes_whatever_the_jitter() -> None:
    async with echoing() as (proxy, pair):
        proxy.set(Line(jitter_seconds=0.01))
        data = bytes(range(256)) * 8
        for start in range(0, len(data), 64):
            pair[1].write(data[start : start + 64])
            await asyncio.sleep(0.001)
        assert await pair[0].readexactly(len(data)) == data


async def test_bandwidth_is_bounded() -> None:
    async with echoing() as (proxy, pair):
        proxy.set(Line(bytes_per_second=200_000), Direction.DOWN)
        assert await say(pair, b"x" * 40_000) >= 0.2


@pytest.mark.parametrize("direction", Direction)
async def test_a_black_hole_says_nothing_until_it_is_gone(direction: Direction) -> None:
    async with echoing() as (proxy, pair):
        proxy.set(Line(black_hole=True), direction)
        pair[1].write(b"lost?")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pair[0].read(1), 0.2)
        proxy.set(CLEAR)
        assert await pair[0].readexactly(5) == b"lost?"


async def test_a_reset_is_seen_as_one() -> None:
    async with echoing() as (proxy, pair):
        await say(pair, b"x")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await pair[0].read(1)
        async with asyncio.timeout(5):
            while proxy.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_half_closed_connection_still_carries_the_answer() -> None:
    async with echoing() as (proxy, pair):
        await say(pair, b"x")
        proxy.half_close(Direction.UP)
        assert await pair[0].read() == b"bye", "the server has seen the end and says its last"


async def test_refused_connections_are_reset() -> None:
    async with echoing() as (proxy, _):
        proxy.refusing = True
        host, _, port = proxy.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


async def test_a_service_behind_a_black_hole_does_not_serve_and_serves_again_after() -> None:
    server = rpc.Server([])
    port = await server.start("127.0.0.1", 0, insecure=False)
    await server.ready()
    async with fault_proxy(f"127.0.0.1:{port}") as proxy:
        assert await rpc.is_serving(proxy.address)
        proxy.set(Line(black_hole=True), Direction.DOWN)
        assert not await rpc.is_serving(proxy.address, timeout_seconds=0.3)
        proxy.set(CLEAR)
        assert await rpc.is_serving(proxy.address)
    await server.stop(0.0)
