"""An update rolls: every service ends and comes back in turn while texts are asked for, and no request is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import EMBEDDED, DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import TARGET
from paceline.messages import Generate
from paceline.speculation.sampling import SamplingParameters
from paceline.testing.processes import until

STEP = "15ms"
"""So long that texts last, and leave the processors to those that start."""
TOKENS = 60
SAMPLING = SamplingParameters(max_tokens=TOKENS, temperature=0.8, ignore_eos=True)
SEEDS = (1, 2, 3)
PATIENCE_SECONDS, GRACE_SECONDS = 30.0, 30.0
TOPOLOGY = Topology(
    models=(ModelRoute("target", str(TARGET), "big", ("lookup",)),),
    verifiers={"big": VerifierPool(replicas=2, numerics="deterministic", emulate_step_time=STEP)},
    drafters={"lookup": DrafterPool("ngram")},
    gateway=GatewayPool(replicas=2),
    redis=EMBEDDED,
)
IN_TURN = ("lookup", "big-0", "big-1", "gateway-0", "gateway-1")


@dataclass
class Load:
    """Clients that know all gateways and ask the next one when one is gone; each asks for its text again and again."""

    addresses: Sequence[str]
    over: bool = False
    told: list[tuple[int, list[int]]] = field(default_factory=list)
    under_way: Counter[int] = field(default_factory=Counter)
    """Tokens of the text that is being told, by seed."""

    async def run(self, seed: int) -> None:
        asked = Generate(text="def read_lines(path):\n", sampling=SAMPLING, seed=seed)
        async with GatewayClient(self.addresses) as client:
            while not self.over:
                token_ids = list[int]()
                async for chunk in client.generate(asked):
                    assert chunk.position == len(token_ids) or not chunk.token_ids, "nothing twice, nothing left out"
                    token_ids += chunk.token_ids
                    self.under_way[seed] = len(token_ids)
                self.under_way[seed] = 0
                self.told.append((seed, token_ids))

    async def flowing(self) -> bool:
        """Whether every client is in the middle of a text."""
        return all(0 < self.under_way[seed] < TOKENS for seed in SEEDS)


async def well(cluster: LocalCluster) -> bool:
    """Whether every gateway has all workers."""
    for address in cluster.gateway_addresses:
        async with GatewayClient(address) as client:
            workers = await client.workers()
        if {worker.worker_id for worker in workers if worker.healthy} != {"lookup", "big-0", "big-1"}:
            return False
    return True


@pytest.mark.timeout(180)
async def test_services_that_are_updated_in_turn_lose_no_request() -> None:
    async with LocalCluster(TOPOLOGY) as cluster:
        await until(lambda: well(cluster), PATIENCE_SECONDS)
        load = Load(cluster.gateway_addresses)
        async with asyncio.TaskGroup() as clients:
            for seed in SEEDS:
                clients.create_task(load.run(seed))
            for name in IN_TURN:
                await until(load.flowing, PATIENCE_SECONDS)
                before = cluster.worker(name).process
                await cluster.restart(name, GRACE_SECONDS)
                assert before.returncode == 0, f"{name} has drained"
                await until(lambda: well(cluster), PATIENCE_SECONDS)
            load.over = True
    texts = {seed: [told for other, told in load.told if other == seed] for seed in SEEDS}
    for seed, found in texts.items():
        assert found, seed
        assert {len(text) for text in found} == {TOKENS}
        assert all(text == found[0] for text in found)
