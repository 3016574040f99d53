"""gRPC in, logic, gRPC out."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.callers import Callers
from gateway.service import Gateway
from paceline import wire
from paceline.rpc import authorization, streaming, unary
from paceline.security.access import peer


class GatewayServicer(wire.GatewayBase):
    """``GatewayService`` over a ``Gateway``, for callers that are let in."""

    def __init__(self, gateway: Gateway, callers: Callers) -> None:
        self._gateway, self._callers = gateway, callers

    @streaming
    async def Generate(
        self, request: wire.gateway.GenerateRequest
    ) -> AsyncGenerator[wire.gateway.GenerateResponse, None]:
        caller = self._callers.identify(authorization(), peer())
        told = self._gateway.access.told(lambda: self._gateway.generate(wire.from_generate(request), caller), caller)
        async with aclosing(told) as chunks:
            async for chunk in chunks:
                yield wire.to_chunk(chunk)

    @streaming
    async def Resume(self, request: wire.gateway.ResumeRequest) -> AsyncGenerator[wire.gateway.GenerateResponse, None]:
        caller = self._callers.identify(authorization(), peer())
        resume = functools.partial(self._gateway.resume, request.resume_token, caller)
        async with aclosing(self._gateway.access.told(resume, caller, resumed=True)) as chunks:
            async for chunk in chunks:
                yield wire.to_chunk(chunk)

    @unary
    async def Abort(self, request: wire.gateway.AbortRequest) -> wire.gateway.AbortResponse:
        caller = self._callers.identify(authorization(), peer())
        self._gateway.abort(request.session_id, caller)
        return wire.gateway.AbortResponse()

    @unary
    async def GetTimeline(self, request: wire.gateway.GetTimelineRequest) -> wire.gateway.GetTimelineResponse:
        caller = self._callers.identify(authorization(), peer())
        timeline = await self._gateway.timeline(request.trace_id, caller)
        return wire.gateway.GetTimelineResponse(timeline_json=timeline)

    @unary
    async def ListModels(self, request: wire.gateway.ListModelsRequest) -> wire.gateway.ListModelsResponse:
        self._callers.identify(authorization(), peer())
        return wire.gateway.ListModelsResponse(models=[wire.to_model_info(model) for model in self._gateway.models()])

    @unary
    async def ListWorkers(self, request: wire.gateway.ListWorkersRequest) -> wire.gateway.ListWorkersResponse:
        self._callers.identify(authorization(), peer())
        return wire.gateway.ListWorkersResponse(workers=[wire.to_worker(worker) for worker in self._gateway.workers()])
