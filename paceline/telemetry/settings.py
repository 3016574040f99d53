"""What the settings of all services have in common about telemetry."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlsplit

from paceline.speculation.fields import Checks

TELEMETRY_HELP = "off: nothing is counted, traced or exported"
OTLP_HELP = "collector that spans and measurements are sent to by OTLP over gRPC, as http://HOST:4317; none: no spans"
TRACE_RATIO_HELP = "share of requests that are traced, 0 to 1, where the client has not said whether"
METRIC_NAMES_HELP = "paceline, or vllm: /metrics says the same by vLLM's names, too"
METRICS_PORT_HELP = "port of /metrics; 0 takes a free one, -1 is off"
DEFAULT_TRACE_RATIO = 0.01
NAMES = ("paceline", "vllm")


class TelemetrySettings(Protocol):
    """Of a service."""

    @property
    def name(self) -> str: ...
    @property
    def telemetry(self) -> str: ...
    @property
    def otlp(self) -> str | None: ...


def check_telemetry(checks: Checks, config: TelemetrySettings) -> None:
    """Notes what is wrong with them."""
    checks.require(config.telemetry in ("on", "off"), "telemetry", config.telemetry, "on or off")
    check_otlp(checks, config.otlp)


def check_otlp(checks: Checks, otlp: str | None, key: str = "otlp") -> None:
    """Of any service."""
    if otlp is not None:
        url = urlsplit(otlp)
        known = url.scheme in ("http", "https") and bool(url.hostname)
        checks.require(known, key, otlp, "an URL, as http://HOST:4317")


def check_trace_ratio(checks: Checks, ratio: float, key: str = "trace_ratio") -> None:
    """Of a gateway: whoever is further behind follows it."""
    checks.require(0 <= ratio <= 1, key, ratio, "0 to 1")


def check_metric_names(checks: Checks, names: str, key: str = "metric_names") -> None:
    """Of a gateway."""
    checks.require(names in NAMES, key, names, " or ".join(NAMES))


def check_metrics_port(checks: Checks, port: int) -> None:
    """Of a worker; a gateway has ``/metrics`` beside what else it serves by HTTP."""
    checks.require(-1 <= port < 65536, "metrics_port", port, "-1 (off) to 65535")
