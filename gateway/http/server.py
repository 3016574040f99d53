"""Uvicorn on the event loop that is running already, beside gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from gateway.http.patience import Impatient
from gateway.http.tls import CertifiedProtocol, https_context
from paceline.rpc import require_private
from paceline.security.identity import Identity

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies usually keep their side, so that they never write into a connection that is closing."""
GRACE_SECONDS = 2
START_SECONDS = 0.01


class _Quiet(uvicorn.Server):
    """Leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application from ``start`` to ``stop``."""

    def __init__(
        self, app: ASGIApp, *, reserved: bool = False, identity: Identity | None = None, keyed: bool = False
    ) -> None:
        """``reserved``: a parent process holds the port for us; else nobody may share it. ``identity``: HTTPS, for
        clients with certificates, or, ``keyed``, for everybody: the application asks for keys."""
        self._reserved, self._identity = reserved, identity
        certified = identity is not None and not keyed
        config = uvicorn.Config(
            app, http=CertifiedProtocol if certified else Impatient, ws="none", lifespan="off", log_config=None,
            log_level="warning", access_log=False, server_header=False, timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )  # fmt: skip
        config.load()
        config.ssl = https_context(identity, demand=certified) if identity else None
        self._server = _Quiet(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, *, insecure: bool) -> int:
        """Listens and returns the port; 0 takes a free one."""
        require_private(host, self._identity, insecure=insecure)
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
