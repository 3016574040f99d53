"""W3C trace contexts (https://www.w3.org/TR/trace-context/): as strings on the wire, as OpenTelemetry's in here."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = "traceparent"
"""Name of the header and of the metadata that carry it."""
_FORM = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
Metadata = tuple[tuple[str, str], ...]
_W3C = TraceContextTextMapPropagator()
_heard: ContextVar[str] = ContextVar(TRACEPARENT, default="")


def hear(traceparent: str) -> None:
    """Notes what the client of the call that is being handled has sent; each call has a context of its own."""
    _heard.set(traceparent)


def heard() -> str:
    """What it has sent, valid or not; empty: nothing."""
    return _heard.get()


def context_of(traceparent: str) -> Context:
    """For the parent of a span; empty for what is no trace context."""
    return _W3C.extract({TRACEPARENT: traceparent}, Context())


def valid_or_new(traceparent: str) -> str:
    """The trace context, or a new one, not sampled, for what is none."""
    known = get_current_span(context_of(traceparent)).get_span_context()
    if known.is_valid:
        return traceparent_of(NonRecordingSpan(known))
    return f"00-{secrets.randbits(128) or 1:032x}-{secrets.randbits(64) or 1:016x}-00"


def trace_id_of(traceparent: str) -> str:
    """Its 32 hexadecimal digits; empty for what is no trace context."""
    found = _FORM.match(traceparent)
    return found[1] if found else ""


def with_context(metadata: Metadata, traceparent: str = "") -> Metadata:
    """Of a call that is about to be made, on behalf of the span that it is made in; or of ``traceparent``."""
    said = traceparent or traceparent_of(get_current_span())
    return (*metadata, (TRACEPARENT, said)) if said else metadata


def link_to(traceparent: str) -> list[Link]:
    """A link to that span, if it is one."""
    known = get_current_span(context_of(traceparent)).get_span_context()
    return [Link(known)] if known.is_valid else []


def traceparent_of(span: Span) -> str:
    """What makes others' spans its children; empty for a span that is none."""
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
