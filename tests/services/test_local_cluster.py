"""A fleet of two gateways with a Redis of its own: workers end, come back and join; whoever asks is answered."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from paceline import rpc, wire
from paceline.client import GatewayClient
from paceline.cluster.announcing import VERIFIER
from paceline.cluster.embedded_redis import embedded_url, is_answering
from paceline.cluster.local import REDIS, LocalCluster
from paceline.cluster.redis_client import connect
from paceline.cluster.topology import EMBEDDED, DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import TARGET
from paceline.messages import Completion, Generate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLING = SamplingParameters(max_tokens=24, temperature=0.0, ignore_eos=True)
PATIENCE_SECONDS = 15.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[LocalCluster]:
    topology = Topology(
        models=(ModelRoute("target", str(TARGET), "verifier", ("ngram",)),),
        verifiers={"verifier": VerifierPool(numerics="deterministic")},
        drafters={"ngram": DrafterPool("ngram")},
        gateway=GatewayPool(replicas=2),
        redis=EMBEDDED,
    )
    async with LocalCluster(topology) as cluster:
        yield cluster


async def say(address: str) -> tuple[list[int], Completion]:
    """A text, always the same, and how it came about."""
    speculation = SpeculationParameters(Mode.LOCKSTEP)
    asked = Generate(text="def f(x):\n" * 4, sampling=SAMPLING, speculation=speculation, seed=3)
    async with GatewayClient(address) as client:
        chunks = [chunk async for chunk in client.generate(asked)]
    assert chunks[-1].completion is not None
    return [token_id for chunk in chunks for token_id in chunk.token_ids], chunks[-1].completion


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def healthy(address: str) -> set[str]:
    """The workers that a gateway finds well, by name."""
    async with GatewayClient(address) as client:
        return {worker.worker_id for worker in await client.workers() if worker.healthy}


def redis_of(cluster: LocalCluster) -> Redis:
    assert cluster.topology.redis is not None
    return connect(cluster.topology.redis)


async def announced(cluster: LocalCluster) -> int:
    async with redis_of(cluster) as redis:
        return len(await redis.keys("paceline:worker:*"))


async def incarnation(cluster: LocalCluster) -> int:
    async with rpc.channel(cluster.worker("verifier").address) as connection:
        described = await wire.verifier_stub(connection).Describe(wire.verifier.DescribeVerifierRequest())
    async with redis_of(cluster) as redis:
        assert int(await redis.get(f"paceline:incarnation:{VERIFIER}:verifier") or 0) == described.incarnation
    return int(described.incarnation)


async def test_both_gateways_serve_from_the_same_workers(cluster: LocalCluster) -> None:
    assert len(set(cluster.gateway_addresses) | set(cluster.http_addresses)) == 4
    answers = [await say(address) for address in cluster.gateway_addresses]
    assert answers[0][0] == answers[1][0]
    for address in cluster.gateway_addresses:

        async def drafted(address: str = address) -> bool:  # the first text may be over before a drafter has joined
            _, completion = await say(address)
            return [drafter.drafter_id for drafter in completion.overlap.drafters] == ["ngram"]

        await until(drafted)
    assert await announced(cluster) == 2


async def test_workers_that_were_killed_come_back_in_their_places(cluster: LocalCluster) -> None:
    text, _ = await say(cluster.gateway_address)
    before = await incarnation(cluster)
    for name in ("verifier", "ngram", "gateway-1"):
        address, process = cluster.worker(name).address, cluster.worker(name).process
        cluster.kill(name)
        assert process.returncode == -signal.SIGKILL
        await cluster.restart(name)
        assert cluster.worker(name).address == address
        assert cluster.worker(name).process is not process
    assert await incarnation(cluster) > before
    for address in cluster.gateway_addresses:
        await until(lambda address=address: _all_well(address))  # type: ignore[misc]
        assert (await say(address))[0] == text


async def _all_well(address: str) -> bool:
    return await healthy(address) >= {"verifier", "ngram"}


async def test_what_the_services_log_is_json_and_says_whose_it_is(cluster: LocalCluster) -> None:
    """gRPC's core and Redis write what they like."""
    _, completion = await say(cluster.gateway_address)
    for worker in cluster.workers:
        assert worker.log is not None
        lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
        assert {line["worker"] for line in lines} <= {worker.name}
        assert ("serving" in {line["event"] for line in lines}) is (worker.name != REDIS)
        assert '{"' not in worker.last_words()
    log = cluster.worker("gateway-0").log
    assert log is not None
    answered = [json.loads(line) for line in log.read_text().splitlines() if "request finished" in line]
    assert answered[-1]["tokens"] == completion.usage.completion_tokens
    assert answered[-1].keys() >= {"request", "session", "epoch", "trace_id", "model", "mode", "finish_reason"}


async def test_without_redis_a_fleet_serves_on_and_a_gateway_starts(cluster: LocalCluster) -> None:
    text, _ = await say(cluster.gateway_address)
    cluster.kill(REDIS)
    await cluster.restart("gateway-0")
    for address in cluster.gateway_addresses:
        assert (await say(address))[0] == text
    await cluster.restart(REDIS)

    async def all_announced() -> bool:
        return await announced(cluster) == 2

    await until(all_announced)


async def test_who_was_started_elsewhere_joins_and_a_gateway_that_is_told_of_nobody_finds_all(
    cluster: LocalCluster,
) -> None:
    assert cluster.topology.redis is not None
    flags = ["--redis", cluster.topology.redis]
    cluster._spawn("finder", "gateway", [*flags, "--http-port", "-1"])
    cluster._spawn("stranger", "drafter_service", [*flags, "--kind", "recycling", "--name", "stranger"])
    finder = cluster.worker("finder").address
    for name in ("finder", "stranger"):
        await cluster._until_serving(cluster.worker(name))
    await until(lambda: _knows_stranger(finder))
    await until(lambda: _knows_stranger(cluster.gateway_address))
    drafters = (await say(finder))[1].overlap.drafters
    assert {drafter.drafter_id for drafter in drafters} == {"ngram", "stranger"}


async def _knows_stranger(address: str) -> bool:
    return await healthy(address) == {"verifier", "ngram", "stranger"}


def _parent_of_redis(folder: Path) -> subprocess.Popen[bytes]:
    start = [sys.executable, "-m", "paceline.cluster.embedded_redis", str(folder)]
    code = f"import subprocess, time; subprocess.Popen({start}); time.sleep(60)"
    return subprocess.Popen([sys.executable, "-c", code])


async def test_an_embedded_server_dies_with_who_has_started_it_and_keeps_what_it_was_told(tmp_path: Path) -> None:
    url = embedded_url(tmp_path)
    for turn in range(2):
        parent = _parent_of_redis(tmp_path)
        await until(lambda: is_answering(url))
        async with connect(url) as redis:
            assert await redis.incr("turns") == turn + 1
        await asyncio.sleep(1.1)  # it writes once a second
        parent.kill()
        parent.wait()

        async def gone() -> bool:
            return not await is_answering(url)

        await until(gone)
