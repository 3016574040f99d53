"""Spans of a server's unary calls. OpenTelemetry's own interceptors break handlers that read and write streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc import aio
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from paceline.messages.sessions import is_sampled
from paceline.telemetry.context import TRACEPARENT, context_of

Context = aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Awaitable[Any]]


class TracedCalls(aio.ServerInterceptor):
    """Unary calls become spans of their caller's trace, if that is sampled. Streams are left as they are: an answer has
    a span of its own, however it is asked for, and those between workers live for hours."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler: Any = await continuation(handler_call_details)
        said = dict(handler_call_details.invocation_metadata or ()).get(TRACEPARENT, "")
        if handler is None or handler.unary_unary is None or not isinstance(said, str) or not is_sampled(said):
            return handler  # type: ignore[no-any-return]
        replaced: Handler = handler._replace(
            unary_unary=self._traced(handler.unary_unary, handler_call_details.method, said)
        )
        return replaced

    def _traced(self, behaviour: Behaviour, method: str, traceparent: str) -> Behaviour:
        service, _, name = method.strip("/").partition("/")
        about = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}

        async def reply(request: Any, context: Context) -> Any:
            span = self._tracer.start_span(name, context_of(traceparent), SpanKind.SERVER, about)
            try:
                return await behaviour(request, context)
            except Exception:
                span.set_status(StatusCode.ERROR)
                raise
            finally:
                span.set_attribute("rpc.grpc.status_code", _number(context.code()))
                span.end()

        return reply


def _number(code: Any) -> int:
    """Of a status; gRPC gives it as it was set."""
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code or 0)
