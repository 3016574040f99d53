"""How much a client may send."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 8 << 20


class BodyLimit:
    """413 for bodies above a size, as soon as that is known; what still comes is dropped, the connection goes on."""

    def __init__(self, app: ASGIApp, most: int = MAX_BODY_BYTES) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared, received = Headers(scope=scope).get("content-length", "0"), 0

        async def limited() -> Message:
            nonlocal received
            self._check(int(declared) if declared.isdigit() else 0)
            message = await receive()
            received += len(message.get("body", b""))
            self._check(received)
            return message

        await self._app(scope, limited, send)

    def _check(self, size: int) -> None:
        if size > self._most:
            raise HTTPException(413, f"a body of more than {self._most} bytes")
