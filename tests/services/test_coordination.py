"""The gateway at work as a coordinator, on a fleet of processes: a drafter that slows down in mid-answer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import DRAFT, TARGET
from paceline.messages import Chunk, Generate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.compare import assert_same_text

PROMPT = (5, 6, 7, 8, 9, 10, 11, 12)
SAMPLING = SamplingParameters(max_tokens=700, temperature=0.8, ignore_eos=True)
TWINS = Topology(
    models=(ModelRoute("target", str(TARGET), "verifier", ("draft",)),),
    verifiers={"verifier": VerifierPool(emulate_step_time="12ms")},
    drafters={"draft": DrafterPool("model", str(DRAFT), replicas=2, emulate_step_time="3ms")},
)


@contextlib.asynccontextmanager
async def slowed(process: subprocess.Popen[bytes], times: int = 20) -> AsyncIterator[None]:
    """A process that gets only one in so many milliseconds."""

    async def throttle() -> None:
        while True:
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep((times - 1) * 2e-3)
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(2e-3)

    throttling = asyncio.create_task(throttle())
    try:
        yield
    finally:
        throttling.cancel()
        process.send_signal(signal.SIGCONT)


@pytest.mark.asyncio
async def test_a_drafter_that_slows_down_in_mid_answer_is_replaced() -> None:
    asked = Generate(token_ids=PROMPT, sampling=SAMPLING, speculation=SpeculationParameters(), seed=3)
    async with LocalCluster(TWINS) as cluster, GatewayClient(cluster.gateway_address) as client:
        stream, chunks = client.generate(asked), list[Chunk]()
        async for chunk in stream:
            chunks.append(chunk)
            if sum(len(c.token_ids) for c in chunks) > 150:
                break
        (worker,) = [w for w in await client.workers() if w.role == "drafter" and w.sessions]
        async with slowed(cluster.worker(worker.worker_id).process):
            chunks += [chunk async for chunk in stream]
        alone = replace(asked, speculation=SpeculationParameters(mode=Mode.OFF))
        own = [token_id async for chunk in client.generate(alone) for token_id in chunk.token_ids]
    done = chunks[-1].completion
    assert done is not None
    (heir,) = [d for d in done.overlap.drafters if d.drafter_id != worker.worker_id]
    assert heir.accepted > 50
    text = [token_id for chunk in chunks for token_id in chunk.token_ids]
    assert len(own) == SAMPLING.max_tokens
    assert_same_text(TARGET, list(PROMPT), text, own, SAMPLING, seed=3)
