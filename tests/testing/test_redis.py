"""A Redis that dies, sleeps and comes back on its port, with what it knew or without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.exceptions import RedisError

from paceline.cluster.redis_client import connect
from paceline.testing.redis import RedisServer, redis_server


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


async def told(server: RedisServer, patience_seconds: float = 5.0) -> bytes | None:
    async with connect(server.url, patience_seconds) as redis:
        value = await redis.get("key")
        assert value is None or isinstance(value, bytes)
        return value


async def test_what_it_was_told_survives_a_sigkill_unless_it_starts_empty(server: RedisServer) -> None:
    async with connect(server.url) as redis:
        await redis.set("key", "value")
    port = server.port
    server.stop()
    with pytest.raises((RedisError, OSError)):
        await told(server)
    server.start()
    assert (server.port, await told(server)) == (port, b"value")
    server.stop()
    server.start(empty=True)
    assert await told(server) is None


async def test_a_paused_one_answers_when_it_goes_on(server: RedisServer) -> None:
    server.pause()
    with pytest.raises((RedisError, OSError)):
        await told(server, patience_seconds=0.1)
    server.resume()
    async with connect(server.url) as redis:
        assert await redis.ping()
