"""HTTP requests by route and status, and the page that tells all that the gateway counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paceline.telemetry import Telemetry
from paceline.telemetry.measuring import Labelled, Readings


class Counters:
    """Of one gateway's HTTP side."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._registry = telemetry.registry
        self.requests = Counter[tuple[str, str]]()
        """By route and status."""
        readings = Readings(telemetry.meter, lambda: self)
        readings.counter("paceline.http.requests", "HTTP requests by route and status.", Counters._by_route)

    def _by_route(self) -> Iterator[Labelled]:
        for (route, status), number in list(self.requests.items()):
            yield number, {"route": route, "status": status}

    def text(self) -> bytes:
        """In Prometheus's text format; empty while telemetry is off."""
        return generate_latest(self._registry)


class Counting:
    """Counts requests by the route that served them, so that paths from outside make no labels."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app, self._counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                self._counters.requests[route, str(message["status"])] += 1
            await send(message)

        await self._app(scope, receive, counted)
