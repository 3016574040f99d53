"""Told to stop, a service takes nothing new, finishes what it has in hand or hands it over, and ends with status 0."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx2
import pytest
from grpc import aio

from drafter_service.config import DrafterConfig
from gateway.callers import Callers
from gateway.http.app import make_app
from paceline import rpc, wire
from paceline.client import GatewayClient
from paceline.cluster.child import Reservation
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import TARGET
from paceline.messages import Generate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.local_fleet import LocalGateway, local_drafter, local_gateway, local_verifier
from tests.services.test_signs_of_life import until

TOKENS = 120


def asked(mode: Mode = Mode.OFF) -> Generate:
    sampling = SamplingParameters(max_tokens=TOKENS, temperature=0.8, ignore_eos=True)
    return Generate(token_ids=(5, 6, 7), sampling=sampling, speculation=SpeculationParameters(mode=mode), seed=1)


class Reading:
    """A client that reads an answer."""

    def __init__(self, client: GatewayClient, mode: Mode = Mode.OFF) -> None:
        self.tokens: list[int] = []
        self._task = asyncio.create_task(self._read(client, mode))

    async def _read(self, client: GatewayClient, mode: Mode) -> None:
        async for chunk in client.generate(asked(mode)):
            self.tokens += chunk.token_ids

    async def begun(self) -> None:
        await until(lambda: self.tokens or self._task.done(), 20)
        assert not self._task.done()

    async def whole(self) -> bool:
        await self._task
        return len(self.tokens) == TOKENS

    async def broken(self) -> aio.AioRpcError:
        with pytest.raises(aio.AioRpcError) as caught:
            await self._task
        assert 0 < len(self.tokens) < TOKENS
        return caught.value


async def ended(process: subprocess.Popen[bytes]) -> int:
    await until(lambda: process.poll() is not None, 20)
    return process.returncode


@contextlib.asynccontextmanager
async def http_to(gateway: LocalGateway) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(make_app(gateway.gateway, Callers()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as http:
        yield http


async def test_a_gateway_that_drains_finishes_what_it_has_and_says_where_to_go() -> None:
    async with (
        local_verifier(TARGET, step="5ms") as verifier,
        local_gateway([verifier]) as local,
        GatewayClient(local.address) as client,
        http_to(local) as http,
    ):
        reading = Reading(client)
        await reading.begun()
        local.gateway.drain()
        with pytest.raises(aio.AioRpcError) as refused:
            await anext(client.generate(asked()))
        assert (await http.get("/health")).json() == {"status": "draining"}
        answer = await http.post("/v1/completions", json={"prompt": [5, 6, 7], "max_tokens": 5})
        assert local.gateway.busy
        assert await reading.whole()
        await until(lambda: not local.gateway.busy)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert int(dict(refused.value.trailing_metadata() or ())[rpc.RETRY_AFTER]) > 0
    assert (answer.status_code, answer.headers["connection"], answer.headers["retry-after"]) == (503, "close", "1")
    assert answer.json()["error"]["message"] == "the gateway is draining"


async def test_what_a_gateway_gives_up_hears_so_and_its_sessions_end(target_path: Path) -> None:
    async with (
        local_verifier(target_path, step="5ms") as verifier,
        local_gateway([verifier]) as local,
        GatewayClient(local.address, patience_seconds=0) as client,
    ):
        reading = Reading(client)
        await reading.begun()
        local.gateway.give_up()
        error = await reading.broken()
        await until(lambda: not verifier.verifier.busy and not local.gateway.busy)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "the gateway stops")


async def test_a_drafter_that_drains_leaves_its_sessions_and_takes_no_more(target_path: Path) -> None:
    async with local_verifier(target_path, step="20ms") as verifier:
        config = DrafterConfig("ngram", verifiers=(verifier.address,))
        async with (
            local_drafter(config) as drafter,
            local_gateway([verifier], [drafter]) as local,
            GatewayClient(local.address) as client,
        ):
            reading = Reading(client, Mode.OVERLAPPED)
            await until(lambda: drafter.drafter.attached_sessions == 1)
            drafter.drafter.drain()
            await until(lambda: drafter.drafter.attached_sessions == 0)
            assert len(reading.tokens) < TOKENS, "it did not wait for the end"
            async with rpc.channel(drafter.address) as connection:
                request = wire.drafter.ProposeRequest(token_ids_u32=wire.pack_tokens([5, 6, 7]))
                with pytest.raises(aio.AioRpcError) as refused:
                    await wire.drafter_stub(connection).Propose(request).read()
            assert await reading.whole()
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAVAILABLE, "ngram is draining")


@contextlib.asynccontextmanager
async def gateway_process(verifier: str) -> AsyncIterator[tuple[subprocess.Popen[bytes], GatewayClient]]:
    """A gateway on its own, with a client, once it serves."""
    reservation = Reservation()
    address = f"127.0.0.1:{reservation.port}"
    arguments = ["--verifiers", verifier, "--http-port", "-1", "--port", str(reservation.port), "--exit-with-parent"]
    command = [sys.executable, "-m", "gateway", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: ASYNC220 - it is there at once
    try:
        async with asyncio.timeout(30):
            while not await rpc.is_serving(address):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.05)
        async with GatewayClient(address, patience_seconds=0) as client:
            yield process, client
    finally:
        reservation.release()
        process.kill()
        process.communicate()


@pytest.mark.parametrize("times", [1, 2])
async def test_signals_to_a_gateway(target_path: Path, times: int) -> None:
    """SIGTERM lets it finish, a second one does not."""
    async with (
        local_verifier(target_path, step="10ms") as verifier,
        gateway_process(verifier.address) as (process, client),
    ):
        reading = Reading(client)
        await reading.begun()
        for _ in range(times):
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.1)  # signals of one kind that come together are one
        if times == 1:
            assert await reading.whole()
        else:
            assert (await reading.broken()).code() is grpc.StatusCode.UNAVAILABLE
        assert await ended(process) == 0


async def test_signals_to_a_whole_fleet(target_path: Path) -> None:
    """A drafter that is told to stop costs no text; a verifier that is stopped is noticed, and taken back when it goes
    on; told to stop, it finishes its texts first, for want of an heir."""
    topology = Topology(
        models=(ModelRoute("tiny", str(target_path), "big", ("small",)),),
        verifiers={"big": VerifierPool(emulate_step_time="5ms")},
        drafters={"small": DrafterPool("ngram")},
    )
    async with (
        LocalCluster(topology) as cluster,
        GatewayClient(cluster.gateway_address) as client,
        httpx2.AsyncClient(base_url=f"http://{cluster.http_address}", timeout=30) as http,
    ):

        async def health(status: int) -> None:
            async with asyncio.timeout(20):
                while (await http.get("/health")).status_code != status:  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.05)

        verifier, drafter = cluster.worker("big").process, cluster.worker("small").process
        reading = Reading(client, Mode.OVERLAPPED)
        await reading.begun()
        drafter.send_signal(signal.SIGTERM)
        assert await reading.whole()
        assert await ended(drafter) == 0

        reading = Reading(client)
        await reading.begun()
        verifier.send_signal(signal.SIGSTOP)
        await health(503)
        verifier.send_signal(signal.SIGCONT)
        await health(200)
        assert await reading.whole(), "it went on where it was, with another epoch"

        reading = Reading(client)
        await reading.begun()
        verifier.send_signal(signal.SIGTERM)
        await health(503)
        assert await reading.whole()
        assert await ended(verifier) == 0
