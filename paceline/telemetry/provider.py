"""OpenTelemetry's providers for one service: spans go to a collector, measurements to ``/metrics`` and a collector."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.trace import NoOpTracer, Tracer
from prometheus_client import CollectorRegistry

import paceline
from paceline.telemetry.genai import SCHEMA_URL
from paceline.telemetry.settings import TelemetrySettings

if TYPE_CHECKING:  # the SDK is imported by who exports something
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader

SCOPE = "paceline"


@dataclass(frozen=True)
class Telemetry:
    """Of one service. Without a collector the tracer makes no spans, and passes on the contexts that it is given."""

    tracer: Tracer = field(default_factory=NoOpTracer)
    meter: Meter = field(default_factory=lambda: NoOpMeter(SCOPE))
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    """What ``/metrics`` says."""
    on: bool = False
    shutdowns: tuple[Callable[[], object], ...] = ()

    def shutdown(self) -> None:
        """Sends what is still to be sent, and ends; may take seconds where the collector does not answer."""
        for shutdown in self.shutdowns:
            shutdown()


OFF = Telemetry()


def telemetry_of(config: TelemetrySettings, service: str, trace_ratio: float = 0.0) -> Telemetry:
    """As the settings say; ``service`` is gateway, verifier or drafter. ``trace_ratio``: of requests whose client has
    not said whether they are traced."""
    if config.telemetry == "off":
        return OFF
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    resource = Resource.create({
        "service.name": f"paceline-{service}",
        "service.version": paceline.__version__,
        "service.instance.id": f"{config.name or service}@{socket.gethostname()}",
    })  # fmt: skip
    registry = CollectorRegistry()
    readers: list[MetricReader] = [
        PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    ]
    if config.otlp is None:
        meters = MeterProvider(readers, resource)
        return Telemetry(NoOpTracer(), _meter(meters), registry, on=True, shutdowns=(meters.shutdown,))
    from paceline.telemetry.export import Export

    export = Export(config.otlp, trace_ratio, resource)
    meters = MeterProvider([*readers, export.metrics], resource)
    tracer = export.spans.get_tracer(SCOPE, paceline.__version__, schema_url=SCHEMA_URL)
    return Telemetry(tracer, _meter(meters), registry, on=True, shutdowns=(lambda: export.shutdown(meters),))


def _meter(meters: MeterProvider) -> Meter:
    return meters.get_meter(SCOPE, paceline.__version__, SCHEMA_URL)
