"""Where a session is served, and where it goes when that is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from opentelemetry.trace import Span

from gateway.coordinator import Coordinator, Crew
from gateway.fleet import Fleet
from gateway.mailbox import Mailbox
from gateway.tracing import Trace, fail
from gateway.workers import VerifierWorker
from paceline.errors import Unavailable
from paceline.messages import AbortSession, OpenSession
from paceline.telemetry import traceparent_of

LOOK_SECONDS = 0.02
"""Between two looks for a verifier while there is none."""


@dataclass(frozen=True)
class Seat:
    """A session on a verifier, with the drafters that draft for it there."""

    opening: OpenSession
    verifier: VerifierWorker
    events: Mailbox
    crew: Crew
    span: Span
    """Parent of what happens there."""

    def abort(self) -> None:
        """Tells the verifier to end the session; its last event says how it has ended."""
        self.verifier.send(AbortSession(self.opening.session_id, self.opening.epoch))

    def leave(self, error: Exception | None = None, detail: str = "") -> None:
        """The session is over, or goes on elsewhere; ``error``: it has failed here, and ``detail`` quotes nobody."""
        self.crew.close()
        self.events.close()
        self.verifier.forget(self.opening.session_id, self.opening.epoch)
        if error is not None:
            fail(self.span, error, detail)
        self.span.end()


class Seats:
    """Finds places."""

    def __init__(self, fleet: Fleet, coordinator: Coordinator, patience_seconds: float) -> None:
        """``patience_seconds``: how long a session waits for a verifier if there is none."""
        self._fleet, self._coordinator, self._patience_seconds = fleet, coordinator, patience_seconds

    async def find(
        self,
        opening: OpenSession,
        prediction: tuple[int, ...],
        events: Mailbox,
        wanted: Callable[[], bool],
        trace: Trace,
    ) -> Seat | None:
        """Opens the session on a verifier, as soon as there is one; None once it is no longer ``wanted``."""
        deadline = time.monotonic() + self._patience_seconds
        while wanted():
            try:
                return self._open(opening, prediction, events, trace)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(LOOK_SECONDS)
        return None

    def _open(self, opening: OpenSession, prediction: tuple[int, ...], events: Mailbox, trace: Trace) -> Seat:
        verifier = self._fleet.route(opening)
        assert verifier.description is not None, "a healthy verifier has described itself"
        span = trace.decode(opening, verifier.description.verifier_id)
        opening = replace(opening, traceparent=traceparent_of(span) or opening.traceparent)
        verifier.open(opening, events)
        crew = self._coordinator.crew(opening, verifier, verifier.description.model, prediction)
        return Seat(opening, verifier, events, crew, span)
