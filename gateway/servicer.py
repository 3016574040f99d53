"""gRPC in, logic, gRPC out."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gateway.service import Gateway
from paceline import wire
from paceline.rpc import streaming, unary


class GatewayServicer(wire.GatewayBase):
    """``GatewayService`` over a ``Gateway``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @streaming
    async def Generate(self, request: wire.gateway.GenerateRequest) -> AsyncIterator[wire.gateway.GenerateResponse]:
        async for chunk in self._gateway.generate(wire.from_generate(request)):
            yield wire.to_chunk(chunk)

    @unary
    async def Abort(self, request: wire.gateway.AbortRequest) -> wire.gateway.AbortResponse:
        self._gateway.abort(request.session_id)
        return wire.gateway.AbortResponse()

    @unary
    async def ListModels(self, request: wire.gateway.ListModelsRequest) -> wire.gateway.ListModelsResponse:
        return wire.gateway.ListModelsResponse(models=[wire.to_model_info(model) for model in self._gateway.models()])

    @unary
    async def ListWorkers(self, request: wire.gateway.ListWorkersRequest) -> wire.gateway.ListWorkersResponse:
        return wire.gateway.ListWorkersResponse(workers=[wire.to_worker(worker) for worker in self._gateway.workers()])
