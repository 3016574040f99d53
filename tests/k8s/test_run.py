"""Manifests are run, not only written: every container of the overlay for a laptop, as a local process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tokenizers import Tokenizer

from paceline.client import GatewayClient
from paceline.embedded import TARGET
from paceline.messages import Completion, Generate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.compare import assert_same_text
from tests.k8s.manifests import K8S, build
from tests.k8s.pods import Cluster
from tests.local_fleet import target_alone

pytestmark = pytest.mark.asyncio(loop_scope="module")

OVERLAY = K8S / "overlays" / "local-cpu"
PATIENCE_SECONDS, SEED = 20.0, 7
ASKED = Generate(
    text="def read_lines(path):",
    sampling=SamplingParameters(max_tokens=64, temperature=0.8),
    speculation=SpeculationParameters(Mode.LOCKSTEP),
    seed=SEED,
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """All at once and in no order, as Kubernetes starts them."""
    cluster = Cluster(build(OVERLAY), tmp_path_factory.mktemp("pods"))
    try:
        for pod in reversed(cluster.pods):
            pod.start()
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            await asyncio.gather(*(pod.until(probe) for pod in cluster.pods))
        yield cluster
    finally:
        for pod in cluster.pods:
            pod.kill()


async def say(address: str) -> tuple[list[int], Completion]:
    async with GatewayClient(address) as client:
        chunks = [chunk async for chunk in client.generate(ASKED)]
    assert chunks[-1].completion is not None
    return [token_id for chunk in chunks for token_id in chunk.token_ids], chunks[-1].completion


async def test_workers_are_found_by_the_names_of_their_pods(cluster: Cluster) -> None:
    wanted = {pod.name for component in ("verifier", "drafter") for pod in cluster.of_component(component)}
    async with GatewayClient(cluster.dial("gateway", "grpc")) as client:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while {worker.worker_id for worker in await client.workers() if worker.healthy} != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_the_text_is_the_targets(cluster: Cluster) -> None:
    for _ in range(20):  # the first text may be over before a drafter has joined
        text, completion = await say(cluster.dial("gateway", "grpc"))
        assert completion.usage.completion_tokens == 64
        if completion.overlap.accepted_nodes:
            break
    assert completion.overlap.accepted_nodes > 0, "drafters had their part in it"
    prompt = Tokenizer.from_file(str(TARGET / "tokenizer.json")).encode(ASKED.text or "").ids
    assert_same_text(TARGET, prompt, text, await target_alone(ASKED), ASKED.sampling, SEED)


async def test_pods_end_in_order_after_their_hooks(cluster: Cluster) -> None:
    """A gateway still answers while its hook runs; all end by themselves with status 0."""
    (gateway,) = cluster.of_component("gateway")
    ending = asyncio.create_task(gateway.stop())
    await say(cluster.dial("gateway", "grpc"))
    assert not ending.done()
    assert await ending == 0
    others = [pod for pod in cluster.pods if pod is not gateway]
    assert await asyncio.gather(*(pod.stop() for pod in others)) == [0] * len(others)
