"""What a step has to tell, gathered so that each peer gets one message."""

from __future__ import annotations

from paceline.messages import SessionEvent, Verdict, Verdicts
from verifier_service.attachment import DrafterLink, GatewayLink


class Outbox:
    """Events by gateway and verdicts by drafter."""

    def __init__(self) -> None:
        self._events: dict[int, tuple[GatewayLink, list[SessionEvent]]] = {}
        self._verdicts: dict[int, tuple[DrafterLink, list[Verdict]]] = {}

    def event(self, gateway: GatewayLink, event: SessionEvent) -> None:
        self._events.setdefault(id(gateway), (gateway, []))[1].append(event)

    def verdict(self, link: DrafterLink, verdict: Verdict) -> None:
        self._verdicts.setdefault(id(link), (link, []))[1].append(verdict)

    def send(self) -> None:
        """Drafters first: they have work to do."""
        for link, verdicts in self._verdicts.values():
            link.send(Verdicts(verdicts=tuple(verdicts)))
        for gateway, events in self._events.values():
            gateway.send(events)
