"""Spans that stay in the process, to be looked at."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased

from paceline.telemetry import Telemetry
from paceline.telemetry.export import Following

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


class Recorded:
    """A service's telemetry, and the spans that have ended."""

    def __init__(self, ratio: float = 0.0) -> None:
        self._kept, provider = InMemorySpanExporter(), TracerProvider(ParentBased(Following(ratio)))
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.telemetry = Telemetry(provider.get_tracer("test"), on=True)

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._kept.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]


def parent_id(span: ReadableSpan) -> str:
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


def said(span: ReadableSpan, name: str) -> object:
    """An attribute."""
    return dict(span.attributes or {})[name]
