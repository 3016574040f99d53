"""Workers that come and go at a gateway, over real streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from drafter_service.config import DrafterConfig
from gateway.membership import Membership
from paceline.client import GatewayClient
from paceline.cluster.announcing import DRAFTER, VERIFIER, Announcement
from paceline.messages import Generate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.gateway.test_serving import asked, collect, tokens_of, until
from tests.local_fleet import LocalGateway, LocalVerifier, local_drafter, local_gateway, local_verifier


def said(verifier: LocalVerifier, incarnation: int = 5, name: str = "target") -> Announcement:
    return Announcement(name, VERIFIER, verifier.address, incarnation, "target")


@contextlib.asynccontextmanager
async def following(local: LocalGateway) -> AsyncIterator[Membership]:
    membership = Membership(local.gateway.fleet)
    yield membership
    await membership.close()


def addresses(local: LocalGateway) -> list[str]:
    return [worker.address for worker in local.gateway.verifiers]


async def test_a_gateway_that_knows_nobody_serves_once_somebody_is_there(target_path: Path) -> None:
    """A request that comes before is answered, too."""
    async with (
        local_gateway([]) as local,
        following(local) as membership,
        GatewayClient(local.address) as client,
        local_verifier(target_path, incarnation=5) as verifier,
    ):
        waiting = asyncio.create_task(collect(client, asked(5)))
        await asyncio.sleep(0.1)
        await membership.follow([said(verifier)])
        assert len(tokens_of(await waiting)) == 5


async def test_who_is_gone_is_kept_for_as_long_as_it_serves(target_path: Path) -> None:
    async with local_gateway([]) as local, following(local) as membership, GatewayClient(local.address) as client:
        async with local_verifier(target_path, step="5ms", incarnation=5) as verifier:
            await membership.follow([said(verifier)])
            running = asyncio.create_task(collect(client, asked(40)))
            await until(lambda: verifier.verifier.load()[0] == 1)
            await membership.follow([])
            assert addresses(local) == [verifier.address]
            assert len(tokens_of(await running)) == 40
        await until(lambda: not local.gateway.verifiers[0].healthy)
        await membership.follow([])
        assert addresses(local) == []


async def test_configured_workers_stay_and_are_there_once(target_path: Path) -> None:
    """Also where the registry spells the address in another way."""
    async with local_verifier(target_path, incarnation=5) as verifier:
        other = LocalVerifier(verifier.address.replace("127.0.0.1", "localhost"), verifier.verifier, verifier.servicer)
        async with local_gateway([verifier]) as local, following(local) as membership:
            for announced in ([said(verifier)], [said(other)], []):
                await membership.follow(announced)
                assert addresses(local) == [verifier.address]


async def test_a_verifier_that_was_replaced_is_no_longer_listened_to(target_path: Path) -> None:
    """Its stream is healthy, as is that of a process which was stopped and goes on: what it says is not wanted."""
    async with (
        local_verifier(target_path, step="5ms", incarnation=5) as old,
        local_verifier(target_path, incarnation=6) as heir,
        local_gateway([old]) as local,
        following(local) as membership,
        GatewayClient(local.address) as client,
    ):
        await membership.follow([said(old)])
        running = asyncio.create_task(collect(client, asked(400)))
        await until(lambda: old.verifier.load()[0] == 1)
        await membership.follow([said(heir, 6)])
        await until(lambda: old.verifier.load()[0] == 0)
        await asyncio.gather(running, return_exceptions=True)
        await until(lambda: local.gateway.verifiers[1].healthy)
        assert len(tokens_of(await collect(client, asked(5)))) == 5
        assert [worker.healthy for worker in local.gateway.verifiers] == [False, True]
        await membership.follow([said(old, 5)])  # of an older look: nothing goes back
        await asyncio.sleep(0.3)
        assert [worker.healthy for worker in local.gateway.verifiers] == [False, True]


async def test_drafters_come_and_go_too(target_path: Path) -> None:
    lockstep = SpeculationParameters(mode=Mode.LOCKSTEP)
    sampling = SamplingParameters(max_tokens=40, temperature=0.0, ignore_eos=True)
    request = Generate(token_ids=(1, 2, 3) * 10, sampling=sampling, speculation=lockstep, seed=1)

    async def drafters_of(client: GatewayClient) -> list[str]:
        done = (await collect(client, request))[-1].completion
        assert done is not None
        return [statistics.drafter_id for statistics in done.overlap.drafters]

    async with (
        local_verifier(target_path) as verifier,
        local_gateway([verifier]) as local,
        following(local) as membership,
        GatewayClient(local.address) as client,
    ):
        assert await drafters_of(client) == []
        async with local_drafter(DrafterConfig(kind="ngram", verifiers=(verifier.address,))) as drafter:
            announcement = Announcement("ngram", DRAFTER, drafter.address, drafter.drafter.incarnation)
            await membership.follow([announcement])
            await until(lambda: local.gateway.drafters[0].healthy)
            assert await drafters_of(client) == ["ngram"]
            newer = Announcement("ngram", DRAFTER, "127.0.0.1:1", drafter.drafter.incarnation + 1)
            await membership.follow([newer])
            await until(lambda: not any(worker.healthy for worker in local.gateway.drafters))
            assert await drafters_of(client) == []
        await membership.follow([])
        assert local.gateway.drafters == []
