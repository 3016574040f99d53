"""What a drafter does for a session as spans: how long it was attached, and each message's growth.

Growths are children of the span that the session has at its gateway, not of the drafter's own, so that those that a
killed drafter has sent still hang on something.
"""

from __future__ import annotations

from dataclasses import replace

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from paceline.messages import Attach, DraftNodes
from paceline.messages.sessions import is_sampled
from paceline.telemetry import context_of

NANOSECONDS = 1_000_000_000
MOST_GROWTHS = 4096
"""Of one session; those after it are only counted."""


class DraftSpans:
    """Of one session at this drafter. Where it is not traced they are none."""

    def __init__(self, tracer: Tracer, attach: Attach, drafter_id: str) -> None:
        self._tracer, self._parent = tracer, context_of(attach.traceparent)
        self._about: dict[str, AttributeValue] = {"paceline.drafter": drafter_id, "paceline.epoch": attach.epoch}
        self._span: Span = INVALID_SPAN
        if is_sampled(attach.traceparent):
            self._span = tracer.start_span("draft", self._parent, SpanKind.SERVER, self._about)
        self._growths = self._nodes = 0

    def joined(self) -> None:
        """The verifier has let it in."""
        self._span.add_event("joined")

    def sent(self, nodes: DraftNodes) -> DraftNodes:
        """What is about to be sent, with the span of its growth."""
        growth = nodes.growth
        if growth is None or not self._span.is_recording():
            return nodes
        self._growths += 1
        self._nodes += len(nodes.columns)
        if self._growths > MOST_GROWTHS:
            return nodes
        span = self._tracer.start_span("growth", self._parent, start_time=round(growth.started * NANOSECONDS))
        span.set_attributes({
            **self._about,
            "paceline.nodes": len(nodes.columns),
            "paceline.busy_seconds": nodes.busy_seconds,
            "paceline.idle_seconds": nodes.idle_seconds,
        })  # fmt: skip
        span.end(round(growth.sent * NANOSECONDS))
        return replace(nodes, growth=replace(growth, span_id=span.get_span_context().span_id))

    def end(self, reason: str) -> None:
        """It drafts for the session no more."""
        if self._span.is_recording():
            counts = {"paceline.growths": self._growths, "paceline.nodes": self._nodes}
            self._span.set_attributes({"paceline.reason": reason, **counts})
        self._span.end()
