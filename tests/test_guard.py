"""Clients hear what was wrong with a message, and of our bugs only that there was one."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from paceline import wire
from paceline.errors import NotFound
from paceline.rpc import MAX_DETAILS, Server, streaming, unary

GOOD, BAD = wire.gateway.AbortRequest(session_id="s").SerializeToString(), b"\xff\xff"


class Broken(wire.GatewayBase):
    @unary
    async def Abort(self, request: wire.gateway.AbortRequest) -> wire.gateway.AbortResponse:
        raise RuntimeError("secret of ours")

    @unary
    async def ListModels(self, request: wire.gateway.ListModelsRequest) -> wire.gateway.ListModelsResponse:
        raise NotFound("\U0001f600" * 100_000)

    @streaming
    async def Generate(
        self, request: wire.gateway.GenerateRequest
    ) -> AsyncGenerator[wire.gateway.GenerateResponse, None]:
        yield wire.gateway.GenerateResponse(session_id="s")
        raise KeyError("secret of ours")


@pytest_asyncio.fixture
async def channel() -> AsyncIterator[aio.Channel]:
    server = Server(["paceline.v1.GatewayService"])
    wire.add_gateway(Broken(), server.server)
    port = await server.start("127.0.0.1", 0, insecure=False)
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


async def told(channel: aio.Channel, method: str, data: bytes) -> tuple[grpc.StatusCode, str]:
    method_: Any = channel.unary_stream(f"/{method}")
    call = method_(data)
    with pytest.raises(aio.AioRpcError) as caught:
        [reply async for reply in call]
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize("method", ["Abort", "Generate", "Resume"])
async def test_a_message_that_cannot_be_read_is_named(channel: aio.Channel, method: str) -> None:
    code, details = await told(channel, f"paceline.v1.GatewayService/{method}", BAD)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == "message = '2 bytes': expected a protobuf message of the method's type"


@pytest.mark.parametrize("method", ["Abort", "Generate"])
async def test_a_bug_is_logged_and_not_told(
    channel: aio.Channel, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    asked = GOOD if method == "Abort" else b""
    assert await told(channel, f"paceline.v1.GatewayService/{method}", asked) == (
        grpc.StatusCode.INTERNAL,
        "internal error",
    )
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    assert "secret of ours" in str(record.exc_info[1])


async def test_what_is_not_there_is_unimplemented(channel: aio.Channel) -> None:
    for method in ("paceline.v1.GatewayService/Resume", "paceline.v1.GatewayService/Nothing", "nobody/Nothing"):
        code, _ = await told(channel, method, b"")
        assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_details_fit_the_metadata_that_carries_them(channel: aio.Channel) -> None:
    code, details = await told(channel, "paceline.v1.GatewayService/ListModels", b"")
    assert (code, len(details)) == (grpc.StatusCode.NOT_FOUND, MAX_DETAILS)


async def test_health_and_reflection_are_guarded_too(channel: aio.Channel) -> None:
    for method in ("grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"):
        code, _ = await told(channel, method, BAD)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
