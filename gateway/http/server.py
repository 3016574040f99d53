"""Uvicorn on the event loop that is running already, beside gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies usually keep their side, so that they never write into a connection that is closing."""
GRACE_SECONDS = 2
START_SECONDS = 0.01
REQUEST_SECONDS = 60.0
"""In which a request must have come, from its first byte to its last, or from the beginning of the connection."""


class Impatient(HttpToolsProtocol):
    """Closes connections whose request is not there in time: each of them holds a descriptor."""

    patience_seconds = REQUEST_SECONDS
    _giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_more()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect()

    def on_message_complete(self) -> None:
        self._expect_no_more()
        super().on_message_complete()

    def _expect(self) -> None:
        self._expect_no_more()
        self._giving_up = self.loop.call_later(self.patience_seconds, self.transport.close)

    def _expect_no_more(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()


class _Quiet(uvicorn.Server):
    """Leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application from ``start`` to ``stop``."""

    def __init__(self, app: ASGIApp, *, reserved: bool = False) -> None:
        """``reserved``: a parent process holds the port for us; else nobody may share it."""
        self._reserved = reserved
        self._server = _Quiet(
            uvicorn.Config(
                app, http=Impatient, ws="none", lifespan="off", log_config=None, log_level="warning",
                access_log=False, server_header=False, timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )  # fmt: skip
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens and returns the port; 0 takes a free one."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._reserved:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host.strip("[]"), port))
        self._task = asyncio.create_task(self._server.serve([listener]))
        while not self._server.started:
            await asyncio.sleep(START_SECONDS)
            if self._task.done():
                self._task.result()
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Takes no new requests, and ends the running ones after a grace."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
