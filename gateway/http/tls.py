"""HTTPS: certificates that may change while we serve, and whose the client's is."""

from __future__ import annotations

import asyncio
import ssl

from gateway.http.patience import Impatient
from paceline.security.access import CALLING
from paceline.security.identity import Identity, Party
from paceline.security.refusals import REFUSALS


def https_context(identity: Identity, *, demand: bool) -> ssl.SSLContext:
    """``demand``: clients are asked for a certificate; those without are left to ``CertifiedProtocol``, which can say
    so. Files that have changed are read before a handshake."""
    latest, current = identity.read(), _context(identity, demand=demand)
    outer = _context(identity, demand=demand)

    def renew(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _outer: ssl.SSLContext) -> None:
        nonlocal latest, current
        try:
            if (files := identity.read()) != latest:
                current, latest = _context(identity, demand=demand), files
        except OSError:  # ssl.SSLError is one: half of them may be written; what we have is still good
            pass
        connection.context = current

    outer.sni_callback = renew
    return outer


def _context(identity: Identity, *, demand: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(identity.certificate, identity.key)
    if demand:
        context.load_verify_locations(identity.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class CertifiedProtocol(Impatient):
    """Closes connections whose certificate is of a role that has no business here; tells requests whose it is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        party = party_of(transport.get_extra_info("ssl_object"))
        if party and party.role in CALLING:
            self.app_state = {**self.app_state, "party": party}
            return
        host, port = transport.get_extra_info("peername")[:2]
        who = f"{party.role.value} {party.name}" if party else "a connection without a certificate for a role"
        REFUSALS.note("role" if party else "certificate", f"{host}:{port}", f"HTTPS is for clients, not for {who}")
        transport.abort()


def party_of(connection: ssl.SSLObject | None) -> Party | None:
    """Whom the peer's certificate names."""
    certificate = connection.getpeercert() if connection else None
    names = (certificate or {}).get("subjectAltName", ())
    return Party.among([str(name[1]) for name in names if name[0] == "URI"])
