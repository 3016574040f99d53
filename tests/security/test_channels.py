"""Real servers and channels: who is not who they should be gets nowhere, is logged, and is counted where we can."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from drafter_service.config import DrafterConfig
from gateway.callers import Callers, KeyEntry, hash_key
from paceline import rpc, wire
from paceline.client import BlockingGatewayClient, GatewayClient
from paceline.messages import Generate
from paceline.security.identity import Identity, Party, Role, Trust
from paceline.security.refusals import REFUSALS
from paceline.speculation.sampling import SamplingParameters
from tests.local_fleet import LocalGateway, LocalVerifier, local_drafter, local_gateway, local_verifier
from tests.security.conftest import Papers

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = Generate(token_ids=(5, 6, 7, 5, 6), sampling=SamplingParameters(max_tokens=12, ignore_eos=True), seed=3)
HANDSHAKE_FAILED = "Handshake failed"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def verifier(papers: Papers, target_path: Path) -> AsyncIterator[LocalVerifier]:
    async with local_verifier(target_path, identity=papers.good[Role.VERIFIER]) as verifier:
        yield verifier


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(papers: Papers, verifier: LocalVerifier) -> AsyncIterator[LocalGateway]:
    mine = papers.good[Role.DRAFTER]
    config = DrafterConfig(
        kind="ngram", verifiers=(verifier.address,), name="drafter",
        tls_cert=mine.certificate, tls_key=mine.key, tls_ca=mine.ca,
    )  # fmt: skip
    async with (
        local_drafter(config) as drafter,
        local_gateway([verifier], [drafter], identity=papers.good[Role.GATEWAY]) as gateway,
    ):
        yield gateway


async def describe(address: str, trust: Trust | None, role: Role | None = Role.VERIFIER) -> grpc.StatusCode:
    async with rpc.channel(address, trust, role) as connection:
        request = wire.verifier.DescribeVerifierRequest()
        try:
            await wire.verifier_stub(connection).Describe(request, timeout=2)
        except aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def failure(call: Any) -> grpc.StatusCode:
    with pytest.raises(aio.AioRpcError) as caught:
        await call.read()
    return caught.value.code()


async def test_a_fleet_with_certificates_drafts_verifies_and_answers(papers: Papers, gateway: LocalGateway) -> None:
    async with GatewayClient(gateway.address, trust=papers.good[Role.CLIENT]) as client:
        drafted = 0
        for _ in range(20):  # the first text may be over before the drafter has said anything
            chunks = [chunk async for chunk in client.generate(ASKED)]
            done = chunks[-1].completion
            assert done is not None
            assert [item.drafter_id for item in done.overlap.drafters] == ["drafter"]
            if drafted := done.overlap.drafters[0].proposed:
                break
        assert {worker.healthy for worker in await client.workers()} == {True}
    assert drafted > 0

    def blocking() -> list[int]:
        with BlockingGatewayClient(gateway.address, trust=papers.good[Role.CLIENT]) as client:
            return [token_id for chunk in client.generate(ASKED) for token_id in chunk.token_ids]

    assert await asyncio.to_thread(blocking) == [token_id for chunk in chunks for token_id in chunk.token_ids]


@pytest.mark.parametrize("who", ["nobody", "plain", "expired", "foreign"])
async def test_strangers_fail_the_handshake_and_grpc_logs_it(
    papers: Papers, verifier: LocalVerifier, who: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """gRPC's core turns them away itself: Python never hears of them, so they are logged and cannot be counted."""
    before = dict(REFUSALS.by_reason())
    trust = {"nobody": Trust(papers.good[Role.DRAFTER].ca), "plain": None, **papers.bad}[who]
    assert await describe(verifier.address, trust) is grpc.StatusCode.UNAVAILABLE
    assert REFUSALS.by_reason() == before
    assert HANDSHAKE_FAILED in capfd.readouterr().err


async def test_a_drafter_may_not_decode(
    papers: Papers, verifier: LocalVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    before = REFUSALS.by_reason().get("role", 0)
    async with rpc.channel(verifier.address, papers.good[Role.DRAFTER], Role.VERIFIER) as connection:
        decode = wire.verifier_stub(connection).Decode()
        assert await failure(decode) is grpc.StatusCode.PERMISSION_DENIED
    assert REFUSALS.by_reason()["role"] == before + 1
    assert "VerifierService/Decode is for gateway, not for drafter drafter" in caplog.text


@pytest.mark.parametrize("role", [Role.CLIENT, Role.GATEWAY, Role.OPERATOR])
async def test_nobody_but_a_drafter_speculates(papers: Papers, verifier: LocalVerifier, role: Role) -> None:
    async with rpc.channel(verifier.address, papers.good[role], Role.VERIFIER) as connection:
        assert await failure(wire.verifier_stub(connection).Speculate()) is grpc.StatusCode.PERMISSION_DENIED


async def test_the_gateways_door_is_for_clients(papers: Papers, gateway: LocalGateway) -> None:
    for role in (Role.DRAFTER, Role.VERIFIER):
        async with GatewayClient(gateway.address, trust=papers.good[role]) as client:
            with pytest.raises(aio.AioRpcError) as caught:
                await client.models()
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_drafter_joins_under_its_own_name_only(papers: Papers, verifier: LocalVerifier) -> None:
    before = REFUSALS.by_reason().get("drafter", 0)
    joins = [wire.verifier.Join(session_id="s", epoch=1, drafter_id=name) for name in ("other", "drafter")]
    async with rpc.channel(verifier.address, papers.good[Role.DRAFTER], Role.VERIFIER) as connection:
        stream = wire.verifier_stub(connection).Speculate()
        await stream.write(wire.verifier.DraftUpdate(joins=joins))
        answer = await stream.read()
        later = await stream.read()
        stream.cancel()
    assert [item.code for item in answer.rejected] == [grpc.StatusCode.PERMISSION_DENIED.value[0]]
    assert answer.rejected[0].detail == "drafter_id: expected drafter, as the certificate says"
    assert "no session s within" in later.rejected[0].detail  # under its own name it may wait for its session
    assert REFUSALS.by_reason()["drafter"] == before + 1


async def test_a_server_has_to_be_what_it_is_dialled_as(papers: Papers, verifier: LocalVerifier) -> None:
    gateway = papers.good[Role.GATEWAY]
    assert await describe(verifier.address, gateway) is grpc.StatusCode.OK
    assert await describe(verifier.address, gateway, role=None) is grpc.StatusCode.OK  # the host alone
    assert await describe(verifier.address, gateway, Role.DRAFTER) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("role", [Role.DRAFTER, None])
async def test_a_server_has_to_be_where_its_certificate_says(papers: Papers, role: Role | None) -> None:
    server = rpc.Server([], identity=papers.bad["elsewhere"])
    address = f"127.0.0.1:{await server.start('127.0.0.1', 0, insecure=False)}"
    await server.ready()
    assert not await rpc.is_serving(address, 1.0, papers.good[Role.OPERATOR], role)
    await server.stop(0)


async def test_new_certificates_need_no_restart(papers: Papers, tmp_path: Path) -> None:
    mine = Identity(tmp_path / "ca.pem", tmp_path / "mine.pem", tmp_path / "mine.key")

    def become(identity: Identity) -> None:
        for source, place in zip((identity.ca, identity.certificate), (mine.ca, mine.certificate), strict=True):
            shutil.copy(source, place)

    become(papers.good[Role.VERIFIER])
    shutil.copy(papers.good[Role.VERIFIER].key, mine.key)
    server, client = rpc.Server([], identity=mine), papers.good[Role.OPERATOR]
    address = f"127.0.0.1:{await server.start('127.0.0.1', 0, insecure=False)}"
    await server.ready()
    assert await rpc.is_serving(address, 1.0, client, Role.VERIFIER)
    become(papers.good[Role.DRAFTER])  # the key is not there yet: the old pair goes on
    assert await rpc.is_serving(address, 1.0, client, Role.VERIFIER)
    shutil.copy(papers.good[Role.DRAFTER].key, mine.key)
    assert await rpc.is_serving(address, 1.0, client, Role.DRAFTER)
    assert not await rpc.is_serving(address, 1.0, client, Role.VERIFIER)
    await server.stop(0)


async def test_with_keys_the_gateway_asks_for_no_certificate(papers: Papers, verifier: LocalVerifier) -> None:
    callers = Callers([KeyEntry("team", hash_key("pl-right"))])
    trust, before = Trust(papers.good[Role.CLIENT].ca), REFUSALS.by_reason().get("api_key", 0)
    async with local_gateway([verifier], callers=callers, identity=papers.good[Role.GATEWAY]) as gateway:
        async with GatewayClient(gateway.address, "pl-right", trust) as client:
            assert [model.name for model in await client.models()] == ["target"]
        async with GatewayClient(gateway.address, "pl-wrong", trust) as client:
            with pytest.raises(aio.AioRpcError) as caught:
                await client.models()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert REFUSALS.by_reason()["api_key"] == before + 1


async def test_clients_with_other_certificates_share_no_scope() -> None:
    callers = Callers()
    ours, theirs = (callers.identify(None, Party(Role.CLIENT, name)) for name in ("a", "b"))
    assert ours.cache_scope("tenant") != theirs.cache_scope("tenant")
