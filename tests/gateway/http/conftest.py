"""One fleet of the embedded pair for all tests of the HTTP face."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest_asyncio
from openai import AsyncOpenAI

from paceline.cluster.local import LocalCluster
from paceline.embedded import pair_topology


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def cluster() -> AsyncIterator[LocalCluster]:
    async with LocalCluster(pair_topology()) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def http(cluster: LocalCluster) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://{cluster.http_address}", timeout=30) as client:
        yield client


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def openai(cluster: LocalCluster) -> AsyncIterator[AsyncOpenAI]:
    base = f"http://{cluster.http_address}/v1"
    async with AsyncOpenAI(base_url=base, api_key="none", max_retries=0, timeout=30) as client:
        yield client
