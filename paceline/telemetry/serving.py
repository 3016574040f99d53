"""``/metrics`` of a worker: plain HTTP on the service's host, HTTPS for certified callers where it has certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from paceline.logs import get_logger
from paceline.security.access import CALLING
from paceline.security.identity import Identity, Party
from paceline.security.refusals import REFUSALS
from paceline.speculation.fields import FieldError
from paceline.telemetry.provider import Telemetry

logger = get_logger(__name__)

PATIENCE_SECONDS = 2.0
"""What a client may take for its request: they are answered one after the other."""


class MetricsServer:
    """Serves what a service tells from a thread of its own, until it is stopped."""

    def __init__(self, telemetry: Telemetry, identity: Identity | None = None) -> None:
        self._telemetry, self._identity = telemetry, identity
        self._server: TCPServer | None = None

    def start(self, host: str, port: int, *, reserved: bool) -> int:
        """Listens and returns the port; 0 takes a free one. ``reserved``: a parent process holds it for us. Whether
        ``host`` may be listened on has been asked of the service itself. Raises ``FieldError``."""
        host, identity = host.strip("[]"), self._identity

        class Handler(_Handler):
            registry = self._telemetry.registry

        class Server(TCPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            allow_reuse_address, allow_reuse_port = True, reserved

            def get_request(self) -> tuple[Any, Any]:
                connection, address = super().get_request()
                connection.settimeout(PATIENCE_SECONDS)
                return (_certified(connection, address, identity) if identity else connection), address

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Who asks has gone, or was too slow."""

        try:
            self._server = Server((host, port), Handler)
        except OSError as error:
            raise FieldError("metrics_port", port, f"a port that is free on {host} ({error.strerror})") from error
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        bound = int(self._server.server_address[1])
        logger.info("serving metrics", url=f"{'https' if identity else 'http'}://{host}:{bound}/metrics")
        return bound

    def stop(self) -> None:
        """May wait for a request that is being answered."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _certified(connection: socket.socket, address: Any, identity: Identity) -> ssl.SSLSocket:
    """TLS with whoever shows a certificate of a role that may ask; files are read again for each. Raises ``OSError``,
    which ends the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(identity.ca)
    try:
        secured = context.wrap_socket(connection, server_side=True)
    except OSError:
        connection.close()
        raise
    names = (secured.getpeercert() or {}).get("subjectAltName", ())
    party = Party.among([str(name[1]) for name in names if name[0] == "URI"])
    if party is None or party.role not in CALLING:
        who = f"{party.role.value} {party.name}" if party else "a certificate without a role"
        REFUSALS.note("role", f"{address[0]}:{address[1]}", f"metrics are for clients, not for {who}")
        secured.close()
        raise PermissionError("not a role that may ask")
    return secured


class _Handler(BaseHTTPRequestHandler):
    """One request to a connection."""

    server_version, sys_version = "paceline", ""
    timeout = PATIENCE_SECONDS
    registry: CollectorRegistry

    def do_GET(self) -> None:
        found = self.path.partition("?")[0] == "/metrics"
        body = generate_latest(self.registry) if found else b"not found: only /metrics is here\n"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST if found else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Scrapes are no news."""
