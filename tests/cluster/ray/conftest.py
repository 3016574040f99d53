"""One Ray cluster of two nodes for all tests here, and the text that all fleets on it have to say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from tests.cluster.ray.fleets import REQUEST, TOPOLOGY, end_fleet


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster with an H100 and an L4, as far as labels go.

    A fleet on it is left for whoever comes next: who starts one has the one that is there become it.
    """
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 4, "labels": _label("H100"), "include_dashboard": False}
    nodes: Any = Cluster(initialize_head=True, head_node_args=head)
    nodes.add_node(num_cpus=4, num_gpus=2, labels=_label("L4"))
    try:
        yield nodes.address
        end_fleet(nodes.address)
    finally:
        nodes.shutdown()


@pytest.fixture(scope="session")
def expected() -> list[int]:
    """What a local fleet says."""

    async def say() -> list[int]:
        pools = {"big": replace(TOPOLOGY.verifiers["big"], replicas=1, emulate_step_time="")}
        async with (
            LocalCluster(replace(TOPOLOGY, verifiers=pools, redis=None)) as local,
            GatewayClient(local.gateway_address) as client,
        ):
            return [token async for chunk in client.generate(REQUEST) for token in chunk.token_ids]

    return asyncio.run(say())


def _label(accelerator: str) -> dict[str, str]:
    return {"ray.io/accelerator-type": accelerator}
