"""Settings of one verifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paceline.settings import setting
from paceline.speculation.fields import require


@dataclass(frozen=True)
class VerifierConfig:
    """Serves the target model."""

    target: Path = setting("directory of the target checkpoint (config.json, safetensors, tokenizer.json)")
    host: str = setting("address to listen on; any but loopback needs --insecure", "127.0.0.1")
    port: int = setting("port to listen on; 0 takes a free one", 50052)
    name: str = setting("name of this worker", "verifier")
    model: str = setting("name that clients ask for; empty: the directory's name", "")
    device: str = setting("torch device", "cpu")
    dtype: str = setting("float32, bfloat16 or float16", "float32")
    threads: int = setting("compute threads; 0: all cores", 0)
    cache_tokens: int = setting("tokens that the KV cache holds", 65536)
    max_sessions: int = setting("sessions in a step, at most", 64)
    max_waiting: int = setting("sessions that wait for a place, at most; further ones are refused", 256)
    prefill_chunk: int = setting("prompt tokens computed per step, at most", 256)
    insecure: bool = setting("serve without TLS on other addresses than loopback", False)
    exit_with_parent: bool = setting("a parent holds our port; stop when standard input closes", False)

    def __post_init__(self) -> None:
        require((self.target / "config.json").is_file(), "target", str(self.target), "a directory with a config.json")
        require(self.dtype in ("float32", "bfloat16", "float16"), "dtype", self.dtype, "float32, bfloat16 or float16")
        require(0 <= self.port < 65536, "port", self.port, "0 to 65535")
        for field in ("cache_tokens", "max_sessions", "prefill_chunk"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")
