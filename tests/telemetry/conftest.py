"""A real fleet of two verifiers whose services have done all that they count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest
import pytest_asyncio
from grpc import aio

from gateway.tokens import Claim
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import TelemetryKeys, Topology
from paceline.embedded import pair_topology
from paceline.messages import Generate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

ASKED = Generate(text="def read_lines(path):", sampling=SamplingParameters(max_tokens=48, temperature=0.8), seed=7)


def two_verifiers() -> Topology:
    """Of the embedded pair; a step takes 10 ms, so that an answer lasts."""
    plain = pair_topology()
    verifiers = {name: replace(pool, replicas=2, emulate_step_time="10ms") for name, pool in plain.verifiers.items()}
    drafters = {name: replace(pool, price_per_hour=0.5) for name, pool in plain.drafters.items()}
    return replace(plain, verifiers=verifiers, drafters=drafters, telemetry=TelemetryKeys(metric_names="vllm"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet() -> AsyncIterator[LocalCluster]:
    async with LocalCluster(two_verifiers()) as fleet:
        await use(fleet)
        yield fleet


async def use(fleet: LocalCluster) -> None:
    """Asks for all that there is: in every mode, many at a time, so that all workers draft, and for what is refused."""
    modes = [replace(ASKED, speculation=SpeculationParameters(mode)) for mode in Mode]
    async with GatewayClient(fleet.gateway_address) as client:
        for _ in range(3):
            await asyncio.gather(*(answer(client, replace(ASKED, seed=seed)) for seed in range(6)))
            for asked in modes:
                await answer(client, asked)
        token = (await anext(client.generate(ASKED))).resume_token
        with pytest.raises(aio.AioRpcError, match="resume_token"):
            await anext(client.resume(Claim.parse(token).token.sealed(b"forged")))
    async with httpx2.AsyncClient(base_url=f"http://{fleet.http_address}", timeout=30) as http:
        assert (await http.get("/v1/models")).status_code == 200


async def answer(client: GatewayClient, asked: Generate) -> list[int]:
    return [token_id async for chunk in client.generate(asked) for token_id in chunk.token_ids]
