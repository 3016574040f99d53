"""What a client hears of a message that cannot be read, and of a bug of ours: a status of its own, and nothing of how
we are made. gRPC by itself answers both with the exception's name and text."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from grpc import aio

from paceline.errors import FieldError
from paceline.logs import get_logger

logger = get_logger(__name__)

Context = aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Any]
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@dataclass(frozen=True)
class Unreadable:
    """Stands for a request that could not be read."""

    error: FieldError


class Guard(aio.ServerInterceptor):
    """Around every call of a server. A stream of requests raises ``FieldError`` where one cannot be read."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None  # no such method
        kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
        read = _stream_reader if handler.request_streaming else _reader
        guarded = {kind: _guarded(getattr(handler, kind)), "request_deserializer": read(handler.request_deserializer)}
        replaced: Handler = handler._replace(**guarded)
        return replaced


def _reader(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Raises nothing: there is no handler yet that could say what is wrong."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:  # noqa: BLE001 - protobuf has its own, by implementation
            return Unreadable(FieldError("message", f"{len(data)} bytes", "a protobuf message of the method's type"))

    return read


def _stream_reader(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    reader = _reader(deserialize)

    def read(data: bytes) -> Any:
        request = reader(data)
        if isinstance(request, Unreadable):
            raise request.error
        return request

    return read


def _guarded(behaviour: Behaviour) -> Behaviour:
    """The same handler, of the same kind."""

    async def reply(request: Any, context: Context) -> Any:
        await _refuse_unreadable(request, context)
        try:
            return await behaviour(request, context)
        except Exception as error:  # noqa: BLE001 - the last one that can say what the client hears
            await _end(error, context)

    async def replies(request: Any, context: Context) -> AsyncIterator[Any]:
        await _refuse_unreadable(request, context)
        try:
            async with aclosing(behaviour(request, context)) as items:
                async for item in items:
                    yield item
        except Exception as error:  # noqa: BLE001 - as above
            await _end(error, context)

    return replies if inspect.isasyncgenfunction(behaviour) else reply


async def _refuse_unreadable(request: Any, context: Context) -> None:
    if isinstance(request, Unreadable):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(request.error))


async def _end(error: Exception, context: Context) -> None:
    """gRPC's own exceptions are how calls end, and generated code's how it lacks a method; others are bugs."""
    if isinstance(error, aio.BaseError):
        raise error
    if isinstance(error, NotImplementedError):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, str(error))
    logger.error("a call has failed", exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "internal error")
