"""On the way to a collector. Who makes a span never waits: a thread sends them, and what it cannot send is dropped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

EXPORT_SECONDS = 5.0
"""How long a batch is tried to be sent before it is dropped."""
SHUTDOWN_SECONDS = 2.0
"""What is still to be sent when a service ends has so long in all."""
MOST_WAITING = 8192
"""Spans that wait to be sent; of more, the oldest are dropped."""
QUIET_SECONDS = 60.0
"""Between two lines about the same trouble with a collector."""
TALKATIVE = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal")


class Following(Sampler):
    """Of requests whose client has not said whether: those that go on with one that was traced, and a share of the
    others."""

    def __init__(self, ratio: float) -> None:
        self._share = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        follows = any(link.context.trace_flags.sampled for link in links or ())
        chosen = ALWAYS_ON if follows else self._share
        return chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"Following{{{self._share.get_description()}}}"


class Sparing(logging.Filter):
    """Lets a line through that was not said lately: a collector that is away is so for each batch."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock, self._said = clock, dict[object, float]()

    def filter(self, record: logging.LogRecord) -> bool:
        now, line = self._clock(), record.msg
        if now - self._said.get(line, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        self._said[line] = now
        return True


class Export:
    """What goes to the collector at ``url``. ``ratio``: of requests without a trace of their own."""

    def __init__(self, url: str, ratio: float, resource: Resource) -> None:
        be_sparing()
        plain = urlsplit(url).scheme == "http"
        self._of_spans = OTLPSpanExporter(url, insecure=plain, timeout=EXPORT_SECONDS)
        self._of_metrics = OTLPMetricExporter(url, insecure=plain, timeout=EXPORT_SECONDS)
        self.spans = TracerProvider(ParentBased(Following(ratio)), resource, shutdown_on_exit=False)
        self.spans.add_span_processor(BatchSpanProcessor(self._of_spans, MOST_WAITING))
        self.metrics = PeriodicExportingMetricReader(self._of_metrics)

    def shutdown(self, meters: MeterProvider) -> None:
        """Sends what is still to be sent, unless that takes too long: OpenTelemetry by itself would try for half a
        minute."""
        timer = threading.Timer(SHUTDOWN_SECONDS, self._give_up)
        timer.daemon = True
        timer.start()
        self.spans.shutdown()
        meters.shutdown()
        timer.cancel()

    def _give_up(self) -> None:
        for exporter in (self._of_spans, self._of_metrics):
            exporter.shutdown()


def be_sparing() -> None:
    """One line a minute about each trouble with collectors, in the whole process."""
    for name in TALKATIVE:
        logger = logging.getLogger(name)
        if not any(isinstance(known, Sparing) for known in logger.filters):
            logger.addFilter(Sparing())
