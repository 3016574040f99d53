"""Servers, channels and status codes: everything that is the same for the three services."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Generic, NoReturn, TypeVar

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import Tracer

from paceline.errors import (
    Aborted,
    DataLoss,
    Draining,
    FailedPrecondition,
    FieldError,
    NotFound,
    PacelineError,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from paceline.guard import Guard
from paceline.logs import get_logger
from paceline.security.access import Gatekeeper
from paceline.security.identity import Identity, Role, Trust, server_name
from paceline.security.refusals import REFUSALS
from paceline.speculation.fields import require
from paceline.telemetry.calls import TracedCalls
from paceline.telemetry.context import TRACEPARENT, hear

logger = get_logger(__name__)

MAX_MESSAGE_BYTES = 16 << 20
KEEPALIVE_MS = 20_000
MAX_PENDING = 20_000
"""Messages that a peer may leave unread before its stream is ended."""
HEALTH_SECONDS = 0.25
"""Between two looks at whether a service is well."""
RETRY_AFTER = "retry-after-ms"
AUTHORIZATION = "authorization"
RESUME_TOKEN = "resume-token"  # noqa: S105 - the name of a header
MAX_DETAILS = 512
"""Characters that a status says: each may take twelve bytes, of the 8 KiB of metadata that a client takes."""

_COMMON = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_permit_without_calls", 1),
]
_CLIENT = [  # a worker that has just come up is found within a second, not within gRPC's usual two minutes
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # how long a try may take; one that is refused is over at once
    ("grpc.max_reconnect_backoff_ms", 1000),
]
WINDOW_BYTES = 1 << 17
"""What a stream may have on its way to a server that does not read it: a flood stays where it comes from."""
_SERVER = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
]

_CODES: list[tuple[type[Exception], grpc.StatusCode]] = [
    (FieldError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (ResourceExhausted, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION),
    (Aborted, grpc.StatusCode.ABORTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (DataLoss, grpc.StatusCode.DATA_LOSS),
]
HANDLED = (FieldError, PacelineError)
"""What a servicer turns into a status code; anything else is our bug and becomes INTERNAL."""

REFUSED = (PermissionDenied, Unauthenticated)
"""What is counted, and logged, since somebody may be trying doors."""

ItemT = TypeVar("ItemT")
RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


def status_of(error: Exception) -> grpc.StatusCode:
    """The gRPC status code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def said(error: aio.AioRpcError) -> str:
    """What may be logged of a failed call: its code, and details where they are of the network or of who we are. Those
    of other codes may repeat what the call was about."""
    plain = error.code() in (grpc.StatusCode.UNAVAILABLE, *(status_of(kind("")) for kind in REFUSED))
    return f"{error.code().name}: {error.details()}" if plain else error.code().name


async def abort(context: aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """Ends a call with the status that belongs to ``error``; refusals for who asks are noted."""
    if isinstance(error, REFUSED):
        REFUSALS.note(error.reason, context.peer(), str(error))
    metadata = dict[str, str]()
    if isinstance(error, (ResourceExhausted, Draining)):
        metadata[RETRY_AFTER] = str(int(error.retry_after_seconds * 1000))
    if isinstance(error, Unavailable) and error.resume_token:
        metadata[RESUME_TOKEN] = error.resume_token
    await context.abort(status_of(error), str(error)[:MAX_DETAILS], tuple(metadata.items()))
    raise AssertionError("abort returns by raising")


_authorization: ContextVar[str | None] = ContextVar(AUTHORIZATION, default=None)


def authorization() -> str | None:
    """What the client of the call that is being handled has said for who it is: ``Bearer KEY``, or nothing."""
    return _authorization.get()


def _hear(context: aio.ServicerContext[Any, Any]) -> None:
    """Notes it; every call is handled in a task, and so a context, of its own."""
    metadata = dict(context.invocation_metadata() or ())
    said = metadata.get(AUTHORIZATION)
    _authorization.set(said if isinstance(said, str) else None)
    traceparent = metadata.get(TRACEPARENT)
    hear(traceparent if isinstance(traceparent, str) else "")


def unary(
    handler: Callable[[Any, RequestT], Awaitable[ReplyT]],
) -> Callable[[Any, RequestT, aio.ServicerContext[Any, Any]], Awaitable[ReplyT]]:
    """Makes a method that raises our errors into a unary gRPC handler."""

    @functools.wraps(handler)
    async def call(self: Any, request: RequestT, context: aio.ServicerContext[Any, Any]) -> ReplyT:
        _hear(context)
        try:
            return await handler(self, request)
        except HANDLED as error:
            await abort(context, error)

    return call


def streaming(
    handler: Callable[[Any, RequestT], AsyncGenerator[ReplyT, None]],
) -> Callable[[Any, RequestT, aio.ServicerContext[Any, Any]], AsyncIterator[ReplyT]]:
    """Makes an async generator that raises our errors into a gRPC handler whose reply is a stream."""

    @functools.wraps(handler)
    async def call(self: Any, request: RequestT, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[ReplyT]:
        _hear(context)
        try:
            async with aclosing(handler(self, request)) as replies:
                async for reply in replies:
                    yield reply
        except HANDLED as error:
            await abort(context, error)

    return call


class Outgoing(Generic[ItemT]):
    """What waits to be written to a stream. ``send`` may be called from any thread and never blocks.

    Iterating gives everything that has gathered since the last time, so that a slow peer gets fewer, larger messages. A
    peer that reads nothing at all loses its stream: the task that writes it is cancelled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: asyncio.Task[Any] | None = None) -> None:
        self._loop, self._stream = loop, stream
        self._lock = threading.Lock()
        self._items: list[ItemT] = []
        self._ready = asyncio.Event()
        self._closed = False

    def send(self, item: ItemT) -> None:
        with self._lock:
            if self._closed:
                return
            self._items.append(item)
            if len(self._items) > MAX_PENDING:
                self._items.clear()
                self._closed = True
                if self._stream is not None:
                    self._loop.call_soon_threadsafe(self._stream.cancel)
            elif len(self._items) > 1:
                return
        self._wake()

    def close(self) -> None:
        """Ends the iteration; what is sent later is dropped."""
        with self._lock:
            self._closed = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:
            self._closed = True  # the loop is gone, and with it the stream

    async def __aiter__(self) -> AsyncIterator[list[ItemT]]:
        while True:
            await self._ready.wait()
            self._ready.clear()
            with self._lock:
                items, self._items = self._items, []
                closed = self._closed
            if items:
                yield items
            if closed:
                return


def channel(address: str, trust: Trust | None = None, role: Role | None = None) -> aio.Channel:
    """A channel to a service; keepalive finds a dead peer.

    With ``trust`` the server has to have a certificate for its host that is believed, and for ``role`` if one is given.
    """
    if trust is None:
        return aio.insecure_channel(address, options=[*_COMMON, *_CLIENT])
    return aio.secure_channel(address, trust.channel_credentials(), [*_COMMON, *_CLIENT, *_expected(address, role)])


def blocking_channel(address: str, trust: Trust | None = None, role: Role | None = None) -> grpc.Channel:
    """As ``channel``, for threads."""
    if trust is None:
        return grpc.insecure_channel(address, options=[*_COMMON, *_CLIENT])
    return grpc.secure_channel(address, trust.channel_credentials(), [*_COMMON, *_CLIENT, *_expected(address, role)])


def _expected(address: str, role: Role | None) -> list[tuple[str, str]]:
    """The name that the server's certificate must have, where it is not just its host."""
    host = address.rpartition(":")[0].strip("[]")
    return [("grpc.ssl_target_name_override", server_name(host, role))] if role else []


class Server:
    """A gRPC server with health and reflection, SERVING only once ``ready`` is called."""

    def __init__(
        self,
        services: list[str],
        *,
        reserved: bool = False,
        identity: Identity | None = None,
        keyed: bool = False,
        tracer: Tracer | None = None,
    ) -> None:
        """``reserved``: a parent process holds the port for us; else nobody may share it. With an ``identity`` only
        certificates of the right roles are let in; ``keyed``: no certificate is asked for, since the methods ask for
        keys. ``tracer``: has unary calls be spans of their callers' traces."""
        self._identity, self._certified = identity, identity is not None and not keyed
        self.server = aio.server(
            options=[*_COMMON, *_SERVER, ("grpc.so_reuseport", int(reserved))],
            interceptors=[
                Guard(),
                *([Gatekeeper(abort)] if self._certified else []),
                *([TracedCalls(tracer)] if tracer else []),
            ],
        )
        self._names = ["", *services]
        self._watch: asyncio.Task[None] | None = None
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], self.server)

    async def start(self, host: str, port: int, *, insecure: bool) -> int:
        """Listens and returns the port; health says NOT_SERVING."""
        require_private(host, self._identity, insecure=insecure)
        if self._identity is None:
            bound = self.server.add_insecure_port(f"{host}:{port}")
        else:
            credentials = self._identity.server_credentials(demand=self._certified)
            bound = self.server.add_secure_port(f"{host}:{port}", credentials)
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self.server.start()
        return bound

    async def ready(self, healthy: Callable[[], bool] | None = None) -> None:
        """SERVING from now on, except while ``healthy``, asked again and again, says no."""
        await self._set(health_pb2.HealthCheckResponse.SERVING)
        if healthy is not None:
            self._watch = asyncio.create_task(self._follow(healthy))

    async def drain(self) -> None:
        """NOT_SERVING from now on, for whoever looks; calls are still taken."""
        if self._watch is not None:
            self._watch.cancel()
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_seconds: float = 2.0) -> None:
        """NOT_SERVING at once, then no new calls, then the end of the running ones."""
        await self.drain()
        await self.server.stop(grace_seconds)

    async def _follow(self, healthy: Callable[[], bool]) -> None:
        serving, states = True, health_pb2.HealthCheckResponse
        while True:
            if (now := healthy()) is not serving:
                serving = now
                logger.warning("health has changed", serving=serving)
                await self._set(states.SERVING if serving else states.NOT_SERVING)
            await asyncio.sleep(HEALTH_SECONDS)

    async def _set(self, status: int) -> None:
        for name in self._names:
            await self._health.set(name, status)


async def is_serving(
    address: str, timeout_seconds: float = 1.0, trust: Trust | None = None, role: Role | None = None
) -> bool:
    """Whether the service at ``address`` says SERVING; ``trust`` and ``role`` as for ``channel``."""
    async with channel(address, trust, role) as connection:
        stub: Any = health_pb2_grpc.HealthStub(connection)
        try:
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        except aio.AioRpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def require_private(host: str, identity: Identity | None, *, insecure: bool) -> None:
    """Raises ``FieldError`` for a port that others could read along on, unless that is wanted."""
    require(
        insecure or identity is not None or _is_loopback(host),
        "host", host, "a loopback address, or TLS (tls_cert, tls_key, tls_ca), or --insecure",
    )  # fmt: skip


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
