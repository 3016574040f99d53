"""A collector for OTLP over gRPC that keeps the spans it is sent, to be looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from grpc import aio
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

KINDS = {number: name.removeprefix("SPAN_KIND_").lower() for name, number in Span.SpanKind.items()}


@dataclass(frozen=True)
class Seen:
    """A span as it came: ids in hexadecimal, times in nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty: it is the first of its trace."""
    name: str
    kind: str
    service: str
    """Name of its service."""
    instance: str
    """And of the process."""
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    events: dict[str, int]
    """Their times by name."""
    links: tuple[tuple[str, str], ...]
    """Trace and span that it is linked to."""

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / 1e9


@dataclass
class Collector:
    """``async with Collector() as collector``: it listens at ``url``."""

    spans: list[Seen] = field(default_factory=list)
    metric_batches: int = 0
    url: str = ""
    _server: aio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = aio.server()
        trace_grpc.add_TraceServiceServicer_to_server(_Traces(self), self._server)  # type: ignore[no-untyped-call]
        metrics_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._server)  # type: ignore[no-untyped-call]
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        assert self._server is not None, "it was started"
        await self._server.stop(0.0)

    def trace(self, trace_id: str) -> list[Seen]:
        """Its spans, by their beginning."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start)


class _Traces(trace_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(self, request: trace_pb.ExportTraceServiceRequest, context: Any) -> Any:
        for batch in request.resource_spans:
            resource = _values(batch.resource.attributes)
            for scope in batch.scope_spans:
                self._collector.spans += [_seen(span, resource) for span in scope.spans]
        return trace_pb.ExportTraceServiceResponse()


class _Metrics(metrics_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(self, request: metrics_pb.ExportMetricsServiceRequest, context: Any) -> Any:
        self._collector.metric_batches += 1
        return metrics_pb.ExportMetricsServiceResponse()


def _seen(span: Span, resource: dict[str, Any]) -> Seen:
    return Seen(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=KINDS[span.kind],
        service=resource["service.name"],
        instance=resource["service.instance.id"],
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_values(span.attributes),
        events={event.name: event.time_unix_nano for event in span.events},
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
    )


def _values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
