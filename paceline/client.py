"""A typed client of the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType

from paceline import rpc, wire
from paceline.messages import Chunk, Generate, ModelInfo, Worker


class GatewayClient:
    """``async with GatewayClient(address) as client``; failures are ``grpc.aio.AioRpcError`` with status and detail."""

    def __init__(self, address: str) -> None:
        self._channel = rpc.channel(address)
        self._stub = wire.gateway_stub(self._channel)

    async def __aenter__(self) -> GatewayClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def generate(self, request: Generate) -> AsyncIterator[Chunk]:
        """Streams the answer; the first chunk has the seed, the last one the completion."""
        call = self._stub.Generate(wire.to_generate(request))
        try:
            async for reply in call:
                yield wire.from_chunk(reply)
        finally:
            call.cancel()

    async def abort(self, session_id: str) -> None:
        await self._stub.Abort(wire.gateway.AbortRequest(session_id=session_id))

    async def models(self) -> list[ModelInfo]:
        reply = await self._stub.ListModels(wire.gateway.ListModelsRequest())
        return [wire.from_model_info(model) for model in reply.models]

    async def workers(self) -> list[Worker]:
        reply = await self._stub.ListWorkers(wire.gateway.ListWorkersRequest())
        return [wire.from_worker(worker) for worker in reply.workers]
