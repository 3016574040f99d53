"""Settings of one gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.admission import Bounds
from paceline.security.identity import Role
from paceline.security.settings import CA_HELP, CERTIFICATE_HELP, KEY_HELP, check_tls
from paceline.settings import setting
from paceline.speculation.fields import every_error
from paceline.telemetry.settings import (
    DEFAULT_TRACE_RATIO,
    METRIC_NAMES_HELP,
    OTLP_HELP,
    TELEMETRY_HELP,
    TRACE_RATIO_HELP,
    check_metric_names,
    check_telemetry,
    check_trace_ratio,
)


@dataclass(frozen=True)
class GatewayConfig:
    """Serves clients from workers that it is told of, by address or by Redis."""

    verifiers: tuple[str, ...] = setting(
        "addresses of verifiers, separated by commas, beside those that redis knows", ()
    )
    drafters: tuple[str, ...] = setting("addresses of drafters, likewise", ())
    host: str = setting("address to listen on; any but loopback needs TLS or --insecure", "127.0.0.1")
    port: int = setting("gRPC port; 0 takes a free one", 50051)
    http_port: int = setting("port of the OpenAI-compatible HTTP face; 0 takes a free one, -1 is off", 8000)
    name: str = setting("name of this gateway", "gateway")
    api_keys: Path | None = setting("file of the keys that are let in ('paceline keys add'); none: everybody is", None)
    queue_requests: int = setting("requests to a model that wait for a slot, at most", Bounds.requests)
    queue_tokens: int = setting("tokens that they may have, prompts and max_tokens together", Bounds.tokens)
    queue_seconds: float = setting("longest wait; who would wait longer is refused at once", Bounds.wait_seconds)
    sessions_per_verifier: int = setting("sessions that run at a verifier, at most; 0: as many as it takes", 0)
    failover_seconds: float = setting("how long a session waits for a verifier while there is none", 10.0)
    drain_seconds: float = setting("after SIGTERM, running requests may take so long, at most", 30.0)
    redis: str | None = setting(
        "URL of the fleet's Redis: workers are found, sessions kept and finished texts published there", None
    )
    telemetry: str = setting(TELEMETRY_HELP, "on")
    otlp: str | None = setting(OTLP_HELP, None)
    trace_ratio: float = setting(TRACE_RATIO_HELP, DEFAULT_TRACE_RATIO)
    metric_names: str = setting(METRIC_NAMES_HELP, "paceline")
    tls_cert: Path | None = setting(CERTIFICATE_HELP, None)
    tls_key: Path | None = setting(KEY_HELP, None)
    tls_ca: Path | None = setting(CA_HELP, None)
    insecure: bool = setting("serve without TLS on other addresses than loopback", False)
    exit_with_parent: bool = setting("a parent holds our port; stop when standard input closes", False)

    def __post_init__(self) -> None:
        with every_error() as checks:
            check_telemetry(checks, self)
            check_trace_ratio(checks, self.trace_ratio)
            check_metric_names(checks, self.metric_names)
            check_tls(checks, self, Role.GATEWAY)
            known = bool(self.verifiers) or self.redis is not None
            checks.require(known, "verifiers", "", "at least one address, or --redis")
            checks.require(0 <= self.port < 65536, "port", self.port, "0 to 65535")
            checks.require(-1 <= self.http_port < 65536, "http_port", self.http_port, "-1 (off) to 65535")
            waits = self.failover_seconds
            checks.require(waits >= 0, "failover_seconds", waits, "0 or more")
            checks.require(self.drain_seconds >= 0, "drain_seconds", self.drain_seconds, "0 or more")
            most = self.sessions_per_verifier
            checks.require(most >= 0, "sessions_per_verifier", most, "0 or more")
            with checks.caught():
                Bounds(self.queue_requests, self.queue_tokens, self.queue_seconds)
            if self.redis is not None:
                from paceline.cluster.redis_client import check_redis

                with checks.caught():
                    check_redis("redis", self.redis)

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.queue_requests, self.queue_tokens, self.queue_seconds)
