"""A session's events as spans.

They are written when an event is told, with the event's own times: nothing here stands between the parts of a step.
All are children of the span that the session has at its gateway, so that those that a killed verifier has sent still
hang on something.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.util.types import AttributeValue

from paceline.messages.sessions import is_sampled
from paceline.speculation.tree import Node, State
from paceline.telemetry import context_of, genai
from verifier_service.record import Arrival, Ended, Event, Phase, Step
from verifier_service.session import Session

NANOSECONDS = 1_000_000_000
MOST_STEPS = 4096
"""Of one session; those after it are only counted."""


def trace(session: Session, tracer: Tracer, clock: Callable[[], float]) -> None:
    """Has spans written of a session whose request is traced."""
    if is_sampled(session.opening.traceparent):
        spans = SessionSpans(session, tracer, clock)
        if spans.recording:
            session.record.watchers.append(spans.write)


class SessionSpans:
    """Of one session on this verifier."""

    def __init__(self, session: Session, tracer: Tracer, clock: Callable[[], float]) -> None:
        """``clock``: that of the events. The session has just been opened."""
        self._session, self._tracer = session, tracer
        self._parent = context_of(session.opening.traceparent)
        self._unix_from = _unix_from(clock)
        self._grown: dict[Node, dict[int, None]] = {}
        """Spans of the growths that live nodes come from, in their order."""
        self._steps = 0
        self._span = self._start("session", session.stay.waiting_since, SpanKind.SERVER)

    @property
    def recording(self) -> bool:
        return self._span.is_recording()

    def write(self, event: Event) -> None:
        """Makes the spans that the event ends."""
        match event:
            case Arrival():
                self._arrived(event)
            case Phase():
                span = self._start(event.name, event.started_at)
                if event.tokens:
                    span.set_attribute("paceline.tokens", event.tokens)
                span.end(self._unix(event.ended_at))
            case Step():
                self._steps += 1
                if self._steps <= MOST_STEPS:
                    self._decided(event)
                self._grown = {node: spans for node, spans in self._grown.items() if node.state is State.LIVE}
            case Ended():
                self._end(event)

    def _arrived(self, event: Arrival) -> None:
        if event.growth is not None and event.growth.span_id:
            for node in (*event.nodes, *event.seconded):
                self._grown.setdefault(node, {})[event.growth.span_id] = None

    def _decided(self, event: Step) -> None:
        span = self._start("step", event.rooted_at, links=self._links(event.verified))
        span.set_attributes({
            "paceline.rows": len(event.verified) + 1,
            "paceline.verified": len(event.verified),
            "paceline.accepted": len(event.accepted),
            "paceline.emitted": len(event.token_ids),
            "paceline.position": event.position,
            "paceline.wait_seconds": event.launched_at - event.rooted_at,
            "paceline.pre_verify": event.growing,
        })  # fmt: skip
        span.add_event("launched", timestamp=self._unix(event.launched_at))
        span.end(self._unix(event.decided_at))

    def _links(self, nodes: Sequence[Node]) -> list[Link]:
        """To the growths that the nodes come from, each once."""
        span_ids = {span_id: None for node in nodes for span_id in self._grown.get(node, ())}
        trace_id, sampled = self._span.get_span_context().trace_id, TraceFlags(TraceFlags.SAMPLED)
        return [Link(SpanContext(trace_id, span_id, is_remote=True, trace_flags=sampled)) for span_id in span_ids]

    def _end(self, event: Ended) -> None:
        session, usage = self._session, self._session.usage()
        sums = session.record.statistics(lambda _: False)
        self._span.set_attributes({
            genai.RESPONSE_FINISH_REASONS: [session.ended.value] if session.ended else [],
            genai.USAGE_INPUT_TOKENS: usage.prompt_tokens,
            genai.USAGE_OUTPUT_TOKENS: usage.completion_tokens,
            "paceline.cached_tokens": usage.cached_tokens,
            "paceline.preemptions": session.stay.preemptions,
            "paceline.steps": sums.steps,
            "paceline.verified": sums.verified_nodes,
            "paceline.accepted": sums.accepted_nodes,
            "paceline.wait_seconds": sums.verifier_wait_seconds,
        })  # fmt: skip
        self._span.end(self._unix(event.at))

    def _start(
        self, name: str, at: float, kind: SpanKind = SpanKind.INTERNAL, links: Sequence[Link] | None = None
    ) -> Span:
        about: dict[str, AttributeValue] = {"paceline.epoch": self._session.epoch}
        return self._tracer.start_span(name, self._parent, kind, about, links, self._unix(at))

    def _unix(self, at: float) -> int:
        """Nanoseconds since 1970, of a time on the events' clock."""
        return self._unix_from + round(at * NANOSECONDS)


def _unix_from(clock: Callable[[], float]) -> int:
    """When the clock was 0, in nanoseconds since 1970; of several looks the one that was least disturbed."""
    looks = []
    for _ in range(3):
        before, unix, after = clock(), time.time_ns(), clock()
        looks.append((after - before, unix - round((before + after) / 2 * NANOSECONDS)))
    return min(looks)[1]
