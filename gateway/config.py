"""Settings of one gateway."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.settings import setting
from paceline.speculation.fields import every_error


@dataclass(frozen=True)
class GatewayConfig:
    """Serves clients from the workers of a fixed topology."""

    verifiers: tuple[str, ...] = setting("addresses of the verifiers, separated by commas")
    drafters: tuple[str, ...] = setting("addresses of the drafters, separated by commas", ())
    host: str = setting("address to listen on; any but loopback needs --insecure", "127.0.0.1")
    port: int = setting("gRPC port; 0 takes a free one", 50051)
    name: str = setting("name of this gateway", "gateway")
    insecure: bool = setting("serve without TLS on other addresses than loopback", False)
    exit_with_parent: bool = setting("a parent holds our port; stop when standard input closes", False)

    def __post_init__(self) -> None:
        with every_error() as checks:
            checks.require(bool(self.verifiers), "verifiers", "", "at least one address")
            checks.require(0 <= self.port < 65536, "port", self.port, "0 to 65535")
