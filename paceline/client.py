"""Typed clients of the gateway: for coroutines, and for code without."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc

from paceline import rpc, wire
from paceline.messages import Chunk, Generate, ModelInfo, Worker
from paceline.pursuit import PATIENCE_SECONDS, Pursuit
from paceline.security.identity import Identity, Role, Trust
from paceline.telemetry.context import Metadata, with_context

API_KEY = "PACELINE_API_KEY"

StubT = TypeVar("StubT")


class Turns(Generic[StubT]):
    """The gateways that may be asked, one at a time; the next one once that is lost."""

    def __init__(self, stubs: Sequence[StubT]) -> None:
        self._stubs, self._at = stubs, 0

    def __len__(self) -> int:
        return len(self._stubs)

    @property
    def current(self) -> StubT:
        return self._stubs[self._at]

    def turn(self) -> None:
        self._at = (self._at + 1) % len(self._stubs)


class GatewayClient:
    """``async with GatewayClient(address) as client``; failures are ``grpc.aio.AioRpcError`` with status and detail.

    Answers go on where they were when their gateway is lost: at the same address, or at another one.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        api_key: str | None = None,
        trust: Trust | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """``addresses``: of one gateway or of several, separated by commas or in a sequence. ``api_key`` None: the one
        in the environment, PACELINE_API_KEY, if there is one.

        ``trust``: TLS, with a certificate of our own if it is an ``Identity``; then the gateway's must say that it is
        one. A gateway that asks for keys may have any certificate for its host. ``patience_seconds``: how long an
        answer that broke off is asked for again; 0: never.
        """
        self._key, self._patience_seconds = _key(api_key), patience_seconds
        self._channels = [rpc.channel(address, trust, _role(trust)) for address in _each(addresses)]
        self._stubs = Turns([wire.gateway_stub(channel) for channel in self._channels])
        self.resumed = 0
        """Times that an answer was asked for again because it had broken off."""

    async def __aenter__(self) -> GatewayClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            await channel.close()

    async def generate(self, request: Generate, traceparent: str = "") -> AsyncGenerator[Chunk, None]:
        """Streams the answer; the first chunk has the seed, the last one the completion. ``traceparent``: W3C trace
        context that the answer belongs to; by default that of OpenTelemetry's current span, if there is one."""
        async for chunk in self._pursue(self._pursuit(request, "", traceparent)):
            yield chunk

    async def resume(self, resume_token: str, traceparent: str = "") -> AsyncGenerator[Chunk, None]:
        """Streams the rest of an answer after the chunk that came with the token."""
        async for chunk in self._pursue(self._pursuit(None, resume_token, traceparent)):
            yield chunk

    @property
    def _metadata(self) -> Metadata:
        return with_context(self._key)

    def _pursuit(self, request: Generate | None, token: str, traceparent: str) -> Pursuit:
        return Pursuit(request, token, len(self._stubs), self._patience_seconds, traceparent=traceparent)

    async def _pursue(self, pursuit: Pursuit) -> AsyncGenerator[Chunk, None]:
        while True:
            call = pursuit.call(self._stubs.current, self._key)
            try:
                async for reply in call:
                    chunk = wire.from_chunk(reply)
                    if pursuit.hear(chunk):
                        yield chunk
            except grpc.aio.AioRpcError as error:
                if not pursuit.done and not pursuit.goes_on(error):
                    raise
            finally:
                call.cancel()
            if pursuit.done:
                return
            self.resumed += 1
            self._stubs.turn()
            await asyncio.sleep(pursuit.pause_seconds)

    async def abort(self, session_id: str) -> None:
        await self._stubs.current.Abort(wire.gateway.AbortRequest(session_id=session_id), metadata=self._metadata)

    async def models(self) -> list[ModelInfo]:
        reply = await self._stubs.current.ListModels(wire.gateway.ListModelsRequest(), metadata=self._metadata)
        return [wire.from_model_info(model) for model in reply.models]

    async def workers(self) -> list[Worker]:
        reply = await self._stubs.current.ListWorkers(wire.gateway.ListWorkersRequest(), metadata=self._metadata)
        return [wire.from_worker(worker) for worker in reply.workers]

    async def timeline(self, trace_id: str) -> dict[str, Any]:
        """What happened when in our latest answers of this trace that were watched, as docs/observability.md describes
        it; NOT_FOUND if no gateway keeps any."""
        request = wire.gateway.GetTimelineRequest(trace_id=trace_id)
        for asked in range(1, len(self._stubs) + 1):
            try:
                reply = await self._stubs.current.GetTimeline(request, metadata=self._metadata)
                return dict(json.loads(reply.timeline_json))
            except grpc.aio.AioRpcError as error:
                elsewhere = error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
                if not elsewhere or asked == len(self._stubs):
                    raise
                self._stubs.turn()  # it is kept by the gateway that gave the answer
        raise AssertionError("there is a gateway")


class BlockingGatewayClient:
    """``with BlockingGatewayClient(address) as client``; failures are ``grpc.RpcError`` with status and detail."""

    def __init__(
        self,
        addresses: str | Sequence[str],
        api_key: str | None = None,
        trust: Trust | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """As for ``GatewayClient``."""
        self._key, self._patience_seconds = _key(api_key), patience_seconds
        self._channels = [rpc.blocking_channel(address, trust, _role(trust)) for address in _each(addresses)]
        stubs: list[Any] = [wire.gateway_stub(channel) for channel in self._channels]
        self._stubs = Turns(stubs)
        self.resumed = 0
        """Likewise."""

    def __enter__(self) -> BlockingGatewayClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            channel.close()

    def generate(self, request: Generate, traceparent: str = "") -> Iterator[Chunk]:
        """As ``GatewayClient.generate``; leaving the iteration early ends the session."""
        return self._pursue(self._pursuit(request, "", traceparent))

    def resume(self, resume_token: str, traceparent: str = "") -> Iterator[Chunk]:
        """As ``GatewayClient.resume``."""
        return self._pursue(self._pursuit(None, resume_token, traceparent))

    @property
    def _metadata(self) -> Metadata:
        return with_context(self._key)

    def _pursuit(self, request: Generate | None, token: str, traceparent: str) -> Pursuit:
        return Pursuit(request, token, len(self._stubs), self._patience_seconds, traceparent=traceparent)

    def _pursue(self, pursuit: Pursuit) -> Iterator[Chunk]:
        while True:
            call = pursuit.call(self._stubs.current, self._key)
            try:
                for reply in call:
                    chunk = wire.from_chunk(reply)
                    if pursuit.hear(chunk):
                        yield chunk
            except grpc.RpcError as error:
                if not pursuit.done and not pursuit.goes_on(error):
                    raise
            finally:
                call.cancel()
            if pursuit.done:
                return
            self.resumed += 1
            self._stubs.turn()
            time.sleep(pursuit.pause_seconds)

    def abort(self, session_id: str) -> None:
        self._stubs.current.Abort(wire.gateway.AbortRequest(session_id=session_id), metadata=self._metadata)

    def models(self) -> list[ModelInfo]:
        reply = self._stubs.current.ListModels(wire.gateway.ListModelsRequest(), metadata=self._metadata)
        return [wire.from_model_info(model) for model in reply.models]

    def workers(self) -> list[Worker]:
        reply = self._stubs.current.ListWorkers(wire.gateway.ListWorkersRequest(), metadata=self._metadata)
        return [wire.from_worker(worker) for worker in reply.workers]


def _each(addresses: str | Sequence[str]) -> list[str]:
    several = addresses.split(",") if isinstance(addresses, str) else addresses
    return [address.strip() for address in several]


def _role(trust: Trust | None) -> Role | None:
    return Role.GATEWAY if isinstance(trust, Identity) else None


def _key(api_key: str | None) -> Metadata:
    key = os.environ.get(API_KEY, "") if api_key is None else api_key
    return ((rpc.AUTHORIZATION, f"Bearer {key}"),) if key else ()
