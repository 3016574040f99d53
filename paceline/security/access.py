"""Which role may call what: one table, asked before a method sees its call. What is not in it is refused."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import grpc
from grpc import aio

from paceline.errors import PacelineError, PermissionDenied, Unauthenticated
from paceline.security.identity import Party, Role

_LOOKING = frozenset({Role.GATEWAY, Role.DRAFTER, Role.OPERATOR})
_SERVING = frozenset({Role.GATEWAY, Role.OPERATOR})
ALLOWED: dict[str, frozenset[Role]] = {
    "/paceline.v1.VerifierService/Decode": frozenset({Role.GATEWAY}),
    "/paceline.v1.VerifierService/Speculate": frozenset({Role.DRAFTER}),
    "/paceline.v1.VerifierService/Describe": _LOOKING,
    "/paceline.v1.VerifierService/GetTokenizer": _LOOKING,
    "/paceline.v1.DrafterService/Attach": frozenset({Role.GATEWAY}),
    "/paceline.v1.DrafterService/Propose": _SERVING,
    "/paceline.v1.DrafterService/Describe": _SERVING,
}
CALLING = frozenset({Role.CLIENT, Role.OPERATOR})
"""Who may use the gateway, by whichever of its methods."""
_FOR_CALLERS = "/paceline.v1.GatewayService/"
_FOR_ALL = ("/grpc.health.v1.", "/grpc.reflection.")
"""For whoever has a certificate at all."""

Refuse = Callable[[aio.ServicerContext[Any, Any], PacelineError], Awaitable[None]]
"""Ends a call with an error."""

_peer: ContextVar[Party | None] = ContextVar("peer", default=None)


def peer() -> Party | None:
    """Whose call is being handled, by its certificate; None where none is asked for."""
    return _peer.get()


def refusal(method: str, party: Party | None) -> PacelineError | None:
    """Why a call of ``method`` is refused to ``party``; None: it is not."""
    if method.startswith(_FOR_ALL):
        return None
    if party is None:
        expected = "expected one URI spiffe://paceline/ROLE/NAME"
        return Unauthenticated(f"the certificate names no role: {expected}", "certificate")
    roles = CALLING if method.startswith(_FOR_CALLERS) else ALLOWED.get(method, frozenset())
    if party.role in roles:
        return None
    expected = " or ".join(sorted(role.value for role in roles)) or "nobody"
    return PermissionDenied(f"{method} is for {expected}, not for {party.role.value} {party.name}", "role")


class Gatekeeper(aio.ServerInterceptor):
    """Refuses calls by the role that the peer's certificate names."""

    def __init__(self, refuse: Refuse) -> None:
        self._refuse = refuse

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler, method = await continuation(handler_call_details), handler_call_details.method

        async def admit(context: aio.ServicerContext[Any, Any]) -> None:
            party = Party.among([uri.decode(errors="replace") for uri in context.auth_context().get("peer_uri", ())])
            error = refusal(method, party)
            if error:
                await self._refuse(context, error)
            _peer.set(party)

        return _guarded(handler, admit) if handler else None


Admit = Callable[[aio.ServicerContext[Any, Any]], Awaitable[None]]


def _guarded(handler: Any, admit: Admit) -> grpc.RpcMethodHandler[Any, Any]:
    """The same method, behind ``admit``."""
    streams = "stream" if handler.response_streaming else "unary"
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{streams}"
    method = getattr(handler, kind)
    guarded = _guarded_stream(method, admit) if inspect.isasyncgenfunction(method) else _guarded_call(method, admit)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    result: grpc.RpcMethodHandler[Any, Any] = make(guarded, handler.request_deserializer, handler.response_serializer)
    return result


def _guarded_call(method: Any, admit: Admit) -> Any:
    async def call(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        await admit(context)
        return await method(request, context)

    return call


def _guarded_stream(method: Any, admit: Admit) -> Any:
    async def call(request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        await admit(context)
        async with aclosing(method(request, context)) as replies:
            async for reply in replies:
                yield reply

    return call
