"""Names every request, and has a line logged for those that come to no answer."""

from __future__ import annotations

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access import GONE, INTERNAL, Access, Call, called
from gateway.http.errors import CLIENT_GONE

REQUEST_ID = b"x-request-id"
"""Header of every response."""
_REASONS = {
    400: "invalid_argument", 404: "not_found", 409: "aborted", 410: "data_loss", 413: "too_large",
    429: "resource_exhausted", 503: "unavailable", CLIENT_GONE: GONE,
}  # fmt: skip
_NOTED = (401, 403)
"""Told by who refuses them, once in a while (``paceline.security.refusals``)."""


class Named:
    """Around the application: only what is asked for by POST is a request that could have been answered."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, started, status = Call(via="http"), time.monotonic(), 500
        called(call)

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (REQUEST_ID, call.request.encode())]}
            await send(message)

        try:
            await self._app(scope, receive, named)
        finally:
            if status >= 400 and scope.get("method") == "POST" and not call.answered and status not in _NOTED:
                reason = _REASONS.get(status, INTERNAL)
                self._access.refused(call, reason, status=status, seconds=time.monotonic() - started, **_route(scope))


def _route(scope: Scope) -> dict[str, Any]:
    """Where it went and who has asked, as far as that got; paths from outside are not told."""
    path = getattr(scope.get("route"), "path", None)
    caller = getattr(scope.get("state", {}).get("caller"), "name", None) if scope.get("state") else None
    return {name: value for name, value in (("route", path), ("caller", caller)) if value}
