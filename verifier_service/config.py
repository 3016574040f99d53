"""Settings of one verifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paceline.checkpoint import check_reference
from paceline.cluster.announcing import check_announcing
from paceline.emulation import PACE_HELP, Pace
from paceline.security.identity import Role
from paceline.security.settings import CA_HELP, CERTIFICATE_HELP, KEY_HELP, check_tls
from paceline.settings import setting
from paceline.speculation.fields import every_error
from paceline.synthetic import synthetic_choices
from paceline.telemetry.settings import (
    METRICS_PORT_HELP,
    OTLP_HELP,
    TELEMETRY_HELP,
    check_metrics_port,
    check_telemetry,
)


@dataclass(frozen=True)
class VerifierConfig:
    """Serves the target model."""

    target: str = setting("target checkpoint: a directory (config.json, safetensors, tokenizer.json) or a hub id")
    host: str = setting("address to listen on; any but loopback needs TLS or --insecure", "127.0.0.1")
    port: int = setting("port to listen on; 0 takes a free one", 50052)
    name: str = setting("name of this worker; with redis nobody else's", "verifier")
    redis: str | None = setting("URL of the fleet's Redis, where this verifier announces itself", None)
    advertise: str = setting("address to announce; empty: host and port", "")
    model: str = setting("name that clients ask for; empty: the checkpoint's name", "")
    device: str = setting("torch device", "cpu")
    dtype: str = setting("float32, bfloat16 or float16", "float32")
    numerics: str = setting("standard, or deterministic: bitwise equal texts in every batch, for a price", "standard")
    threads: int = setting("compute threads; 0: all cores", 0)
    cache_tokens: int = setting("tokens that the KV cache holds", 65536)
    max_sessions: int = setting("sessions in a step, at most", 256)
    max_waiting: int = setting("sessions that wait for a place, at most; further ones are refused", 1024)
    prefill_chunk: int = setting("prompt tokens computed per step, at most", 256)
    max_rows: int = setting("rows of a step, at most: roots, their draft nodes and prompt tokens", 1024)
    stall_seconds: float = setting("not serving while a step has taken longer than this", 30.0)
    drain_seconds: float = setting("after SIGTERM, sessions may go on for so long, at most", 30.0)
    emulate_step_time: str = setting(PACE_HELP, "")
    emulate_acceptance: str = setting(
        "experimental: the target's choices follow drafts at these rates by depth, as 0.8,0.6, or are those of a text "
        "that drafters with synthetic acceptance know: text; texts are then not the target's",
        "",
    )
    telemetry: str = setting(TELEMETRY_HELP, "on")
    otlp: str | None = setting(OTLP_HELP, None)
    metrics_port: int = setting(METRICS_PORT_HELP, -1)
    tls_cert: Path | None = setting(CERTIFICATE_HELP, None)
    tls_key: Path | None = setting(KEY_HELP, None)
    tls_ca: Path | None = setting(CA_HELP, None)
    insecure: bool = setting("serve without TLS on other addresses than loopback", False)
    exit_with_parent: bool = setting("a parent holds our port; stop when standard input closes", False)

    def __post_init__(self) -> None:
        with every_error() as checks:
            check_telemetry(checks, self)
            check_metrics_port(checks, self.metrics_port)
            check_tls(checks, self, Role.VERIFIER)
            with checks.caught():
                check_reference("target", self.target)
            checks.require(
                self.dtype in ("float32", "bfloat16", "float16"), "dtype", self.dtype, "float32, bfloat16 or float16"
            )
            known = self.numerics in ("standard", "deterministic")
            checks.require(known, "numerics", self.numerics, "standard or deterministic")
            checks.require(self.stall_seconds > 0, "stall_seconds", self.stall_seconds, "more than 0")
            checks.require(self.drain_seconds >= 0, "drain_seconds", self.drain_seconds, "0 or more")
            checks.require(self.max_rows >= self.max_sessions, "max_rows", self.max_rows, "at least max_sessions")
            checks.require(0 <= self.port < 65536, "port", self.port, "0 to 65535")
            check_announcing(checks, self.redis, self.host, self.advertise)
            with checks.caught():
                Pace.parse(self.emulate_step_time)
            with checks.caught():
                synthetic_choices(self.emulate_acceptance)
            for field in ("cache_tokens", "max_sessions", "prefill_chunk"):
                checks.require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")
