"""Connections that are opened and not used."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
