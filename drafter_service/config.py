"""Settings of one drafter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paceline.checkpoint import check_reference
from paceline.cluster.announcing import check_announcing
from paceline.emulation import PACE_HELP, EmulatedLink, Pace
from paceline.security.identity import Role
from paceline.security.settings import CA_HELP, CERTIFICATE_HELP, KEY_HELP, check_tls
from paceline.settings import setting
from paceline.speculation.fields import Checks, every_error
from paceline.speculation.suffixes import DEPTH
from paceline.synthetic import SyntheticDrafts
from paceline.telemetry.settings import (
    METRICS_PORT_HELP,
    OTLP_HELP,
    TELEMETRY_HELP,
    check_metrics_port,
    check_telemetry,
)

KINDS = ("model", "ngram", "suffix", "recycling", "trigram", "datastore", "rag")


@dataclass(frozen=True)
class DrafterConfig:
    """Drafts candidate trees for the verifiers of its topology."""

    kind: str = setting("one of " + ", ".join(KINDS))
    verifiers: tuple[str, ...] = setting(
        "addresses that it may draft for, separated by commas, beside those that redis knows", ()
    )
    models: tuple[str, ...] = setting(
        "of the verifiers that redis knows, only those with these models, separated by commas; none: all", ()
    )
    model: str | None = setting("draft checkpoint, a directory or a hub id; for kinds model and rag", None)
    tokenizer: str | None = setting(
        "a folder with the target's tokenizer.json, or a hub id; for kinds without a model", None
    )
    datastore: Path | None = setting("what 'paceline datastore build' wrote; for kind datastore", None)
    memory_tokens: int = setting("tokens that kind suffix remembers", 10_000_000)
    snapshot: Path | None = setting("folder where kind suffix keeps its memory between runs; needs a tokenizer", None)
    redis: str | None = setting(
        "URL of the fleet's Redis: this drafter announces itself and finds verifiers; kind suffix, which then needs a "
        "tokenizer, learns what all sessions said",
        None,
    )
    advertise: str = setting("address to announce; empty: host and port", "")
    suffix_decoding_max_tree_depth: int = setting("longest match that kind suffix tells apart", 24)
    suffix_decoding_max_cached_requests: int = setting("finished sessions that kind suffix remembers", 10_000)
    suffix_decoding_max_spec_factor: float = setting("tokens that kind suffix drafts per token of a match", 1.0)
    suffix_decoding_min_token_prob: float = setting("kind suffix drops tokens that came next less often", 0.1)
    host: str = setting("address to listen on; any but loopback needs TLS or --insecure", "127.0.0.1")
    port: int = setting("port to listen on; 0 takes a free one", 50053)
    name: str = setting("name of this worker, with redis nobody else's; empty: its kind", "")
    device: str = setting("torch device", "cpu")
    dtype: str = setting("float32, bfloat16 or float16", "float32")
    threads: int = setting("compute threads", 1)
    cache_tokens: int = setting("tokens that the KV cache holds", 65536)
    max_sessions: int = setting("sessions drafted for at a time, at most", 256)
    max_context: int = setting("longest text that a drafter without a model follows", 131072)
    draft_context: int = setting("tokens of the text that a rag drafter reads, at most", 512)
    stall_seconds: float = setting("not serving while a growth has taken longer than this", 30.0)
    drain_seconds: float = setting("after SIGTERM, a growth in progress may take so long, at most", 30.0)
    price_per_hour: float = setting("what this worker costs, for experiments", 0.0)
    emulate_step_time: str = setting(PACE_HELP, "")
    emulate_acceptance: str = setting(
        "experimental: in the place of the kind one that is right about a synthetic text so often, by depth, as "
        "0.9,0.8,further=0.4; or trace=FILE, lengths of accepted runs",
        "",
    )
    emulate_link: str = setting("experimental: the wire to verifiers, as rtt=5ms,jitter=1ms,bandwidth=100mbps", "")
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
            check_tls(checks, self, Role.DRAFTER, self.worker_name)
            checks.require(self.kind in KINDS, "kind", self.kind, f"one of {', '.join(KINDS)}")
            known = bool(self.verifiers) or self.redis is not None
            checks.require(known, "verifiers", "", "at least one address, or --redis")
            checks.require(0 <= self.port < 65536, "port", self.port, "0 to 65535")
            known = self.dtype in ("float32", "bfloat16", "float16")
            checks.require(known, "dtype", self.dtype, "float32, bfloat16 or float16")
            with checks.caught():
                SyntheticDrafts.parse(self.emulate_acceptance)
            if self.kind in ("model", "rag") and not self.emulate_acceptance:
                with checks.caught():
                    check_reference("model", self.model or "")
            checks.require(self.draft_context >= 64, "draft_context", self.draft_context, "at least 64")
            self._check_look_ups(checks)
            checks.require(self.stall_seconds > 0, "stall_seconds", self.stall_seconds, "more than 0")
            checks.require(self.drain_seconds >= 0, "drain_seconds", self.drain_seconds, "0 or more")
            with checks.caught():
                Pace.parse(self.emulate_step_time)
            with checks.caught():
                EmulatedLink.parse(self.emulate_link)
            for field in ("threads", "cache_tokens", "max_sessions", "max_context"):
                checks.require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")

    def _check_look_ups(self, checks: Checks) -> None:
        if self.kind == "datastore":
            checks.require(self.datastore is not None, "datastore", None, "what 'paceline datastore build' wrote")
            named = bool(self.tokenizer or self.model)
            checks.require(named, "tokenizer", None, "the target's, to check the datastore by")
        if self.snapshot:
            named = bool(self.tokenizer or self.model)
            checks.require(named, "tokenizer", None, "the target's, to check the snapshot by")
        check_announcing(checks, self.redis, self.host, self.advertise)
        if self.redis is not None and self.kind == "suffix":
            named = bool(self.tokenizer or self.model)
            checks.require(named, "tokenizer", None, "the target's, to find its texts in redis by")
        checks.require(self.memory_tokens >= 1024, "memory_tokens", self.memory_tokens, "at least 1024")
        depth, factor = self.suffix_decoding_max_tree_depth, self.suffix_decoding_max_spec_factor
        cached, least = self.suffix_decoding_max_cached_requests, self.suffix_decoding_min_token_prob
        checks.require(1 <= depth <= DEPTH, "suffix_decoding_max_tree_depth", depth, f"1 to {DEPTH}")
        checks.require(cached >= 0, "suffix_decoding_max_cached_requests", cached, "at least 0")
        checks.require(factor >= 0, "suffix_decoding_max_spec_factor", factor, "at least 0")
        checks.require(0 <= least <= 1, "suffix_decoding_min_token_prob", least, "0 to 1")

    @property
    def worker_name(self) -> str:
        return self.name or self.kind
