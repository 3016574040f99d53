"""Notes the trace context that a request comes with."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from paceline.telemetry.context import TRACEPARENT, hear

_NAME = TRACEPARENT.encode()


class Hearing:
    """For whoever handles the request, in the context that it is handled in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope.get("headers") or ())
        hear(headers.get(_NAME, b"").decode("latin-1"))
        await self._app(scope, receive, send)
