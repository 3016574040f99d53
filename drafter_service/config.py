"""Settings of one drafter."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.checkpoint import check_reference
from paceline.emulation import EmulatedLink, Pace
from paceline.settings import setting
from paceline.speculation.fields import require

KINDS = ("model", "ngram", "recycling", "trigram", "rag")


@dataclass(frozen=True)
class DrafterConfig:
    """Drafts candidate trees for the verifiers of its topology."""

    kind: str = setting("one of " + ", ".join(KINDS))
    verifiers: tuple[str, ...] = setting("addresses that it may draft for, separated by commas")
    model: str | None = setting("draft checkpoint, a directory or a hub id; for kinds model and rag", None)
    host: str = setting("address to listen on; any but loopback needs --insecure", "127.0.0.1")
    port: int = setting("port to listen on; 0 takes a free one", 50053)
    name: str = setting("name of this worker; empty: its kind", "")
    device: str = setting("torch device", "cpu")
    dtype: str = setting("float32, bfloat16 or float16", "float32")
    threads: int = setting("compute threads", 1)
    cache_tokens: int = setting("tokens that the KV cache holds", 65536)
    max_sessions: int = setting("sessions drafted for at a time, at most", 256)
    max_context: int = setting("longest text that a drafter without a model follows", 131072)
    draft_context: int = setting("tokens of the text that a rag drafter reads, at most", 512)
    stall_seconds: float = setting("not serving while a growth has taken longer than this", 30.0)
    price_per_hour: float = setting("what this worker costs, for experiments", 0.0)
    emulate_step_time: str = setting("experimental: a forward takes at least so long, as 40ms,per_row=0.1ms", "")
    emulate_link: str = setting("experimental: the wire to verifiers, as rtt=5ms,jitter=1ms,bandwidth=100mbps", "")
    insecure: bool = setting("serve without TLS on other addresses than loopback", False)
    exit_with_parent: bool = setting("a parent holds our port; stop when standard input closes", False)

    def __post_init__(self) -> None:
        require(self.kind in KINDS, "kind", self.kind, f"one of {', '.join(KINDS)}")
        require(bool(self.verifiers), "verifiers", "", "at least one address")
        require(0 <= self.port < 65536, "port", self.port, "0 to 65535")
        require(self.dtype in ("float32", "bfloat16", "float16"), "dtype", self.dtype, "float32, bfloat16 or float16")
        if self.kind in ("model", "rag"):
            check_reference("model", self.model or "")
        require(self.draft_context >= 64, "draft_context", self.draft_context, "at least 64")
        require(self.stall_seconds > 0, "stall_seconds", self.stall_seconds, "more than 0")
        Pace.parse(self.emulate_step_time)
        EmulatedLink.parse(self.emulate_link)
        for field in ("threads", "cache_tokens", "max_sessions", "max_context"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")

    @property
    def worker_name(self) -> str:
        return self.name or self.kind
