"""Typed clients of the gateway: for coroutines, and for code without."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from types import TracebackType
from typing import Any

from paceline import rpc, wire
from paceline.messages import Chunk, Generate, ModelInfo, Worker
from paceline.security.identity import Identity, Role, Trust

API_KEY = "PACELINE_API_KEY"


class GatewayClient:
    """``async with GatewayClient(address) as client``; failures are ``grpc.aio.AioRpcError`` with status and detail."""

    def __init__(self, address: str, api_key: str | None = None, trust: Trust | None = None) -> None:
        """``api_key`` None: the one in the environment, PACELINE_API_KEY, if there is one.

        ``trust``: TLS, with a certificate of our own if it is an ``Identity``; then the gateway's must say that it is
        one. A gateway that asks for keys may have any certificate for its host.
        """
        self._metadata = _metadata(api_key)
        self._channel = rpc.channel(address, trust, _role(trust))
        self._stub = wire.gateway_stub(self._channel)

    async def __aenter__(self) -> GatewayClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def generate(self, request: Generate) -> AsyncGenerator[Chunk, None]:
        """Streams the answer; the first chunk has the seed, the last one the completion."""
        call = self._stub.Generate(wire.to_generate(request), metadata=self._metadata)
        try:
            async for reply in call:
                yield wire.from_chunk(reply)
        finally:
            call.cancel()

    async def resume(self, resume_token: str) -> AsyncGenerator[Chunk, None]:
        """Streams the rest of an answer after the chunk that came with the token."""
        call = self._stub.Resume(wire.gateway.ResumeRequest(resume_token=resume_token), metadata=self._metadata)
        try:
            async for reply in call:
                yield wire.from_chunk(reply)
        finally:
            call.cancel()

    async def abort(self, session_id: str) -> None:
        await self._stub.Abort(wire.gateway.AbortRequest(session_id=session_id), metadata=self._metadata)

    async def models(self) -> list[ModelInfo]:
        reply = await self._stub.ListModels(wire.gateway.ListModelsRequest(), metadata=self._metadata)
        return [wire.from_model_info(model) for model in reply.models]

    async def workers(self) -> list[Worker]:
        reply = await self._stub.ListWorkers(wire.gateway.ListWorkersRequest(), metadata=self._metadata)
        return [wire.from_worker(worker) for worker in reply.workers]


class BlockingGatewayClient:
    """``with BlockingGatewayClient(address) as client``; failures are ``grpc.RpcError`` with status and detail."""

    def __init__(self, address: str, api_key: str | None = None, trust: Trust | None = None) -> None:
        """As for ``GatewayClient``."""
        self._metadata = _metadata(api_key)
        self._channel = rpc.blocking_channel(address, trust, _role(trust))
        self._stub: Any = wire.gateway_stub(self._channel)

    def __enter__(self) -> BlockingGatewayClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def generate(self, request: Generate) -> Iterator[Chunk]:
        """As ``GatewayClient.generate``; leaving the iteration early ends the session."""
        call = self._stub.Generate(wire.to_generate(request), metadata=self._metadata)
        try:
            for reply in call:
                yield wire.from_chunk(reply)
        finally:
            call.cancel()

    def abort(self, session_id: str) -> None:
        self._stub.Abort(wire.gateway.AbortRequest(session_id=session_id), metadata=self._metadata)

    def models(self) -> list[ModelInfo]:
        reply = self._stub.ListModels(wire.gateway.ListModelsRequest(), metadata=self._metadata)
        return [wire.from_model_info(model) for model in reply.models]

    def workers(self) -> list[Worker]:
        reply = self._stub.ListWorkers(wire.gateway.ListWorkersRequest(), metadata=self._metadata)
        return [wire.from_worker(worker) for worker in reply.workers]


def _role(trust: Trust | None) -> Role | None:
    return Role.GATEWAY if isinstance(trust, Identity) else None


def _metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    key = os.environ.get(API_KEY, "") if api_key is None else api_key
    return ((rpc.AUTHORIZATION, f"Bearer {key}"),) if key else ()
