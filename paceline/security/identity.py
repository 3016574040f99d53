"""Certificates in files, the roles that they name, and credentials made of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import grpc

CA_FILE, CA_KEY_FILE = "ca.pem", "ca.key"


class Role(Enum):
    """What the owner of a certificate is to the others."""

    GATEWAY = "gateway"
    VERIFIER = "verifier"
    DRAFTER = "drafter"
    CLIENT = "client"
    OPERATOR = "operator"


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_URI = re.compile(rf"spiffe://paceline/({'|'.join(role.value for role in Role)})/({NAME.pattern})")


@dataclass(frozen=True)
class Party:
    """Whoever a certificate is made out to: a role, and a name within it."""

    role: Role
    name: str

    @property
    def uri(self) -> str:
        """The subject alternative name that says so."""
        return f"spiffe://paceline/{self.role.value}/{self.name}"

    @classmethod
    def parse(cls, uri: str) -> Party | None:
        """None: the URI is none of ours."""
        found = _URI.fullmatch(uri)
        return cls(Role(found[1]), found[2]) if found else None

    @classmethod
    def among(cls, uris: list[str]) -> Party | None:
        """The party that a certificate's URIs name; None unless there is exactly one."""
        parties = [party for party in map(cls.parse, uris) if party]
        return parties[0] if len(parties) == 1 else None


OPERATOR = Party(Role.OPERATOR, "operator")
"""Whoever starts a fleet on one machine, and looks whether it serves."""


def server_name(host: str, role: Role) -> str:
    """The DNS name that a server's certificate has beside ``host``, so that one comparison checks host and role.

    gRPC compares one name with those in the certificate, and no URI. The role comes last, where no real name has it, so
    that a wildcard for a pool's hosts is a wildcard for this one, too.
    """
    return f"{host.replace(':', '-')}.{role.value}.paceline"


@dataclass(frozen=True)
class Trust:
    """Whose certificates are believed: all that ``ca``, a file, has signed."""

    ca: Path

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """With our own certificate, if we have one; read now, and not again."""
        return grpc.ssl_channel_credentials(self.ca.read_bytes())


@dataclass(frozen=True)
class Identity(Trust):
    """What we believe, and what we show: a certificate with its key, in PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None, ca: Path | None) -> Identity | None:
        """From settings, of which either all are given or none."""
        return cls(ca, certificate, key) if certificate and key and ca else None

    @classmethod
    def within(cls, directory: Path, party: Party) -> Identity:
        """Where ``paceline certs init`` leaves it."""
        stem = directory / party.role.value / party.name
        return cls(directory / CA_FILE, stem.with_name(f"{party.name}.pem"), stem.with_name(f"{party.name}.key"))

    def channel_credentials(self) -> grpc.ChannelCredentials:
        key, certificate, ca = self.read()
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def server_credentials(self, *, demand: bool) -> grpc.ServerCredentials:
        """``demand``: only clients with a certificate are let in. Files are read again for each handshake, so new
        certificates need no restart; while they do not fit together gRPC keeps those that it has."""
        latest = self.read()

        def configuration(files: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
            key, certificate, ca = files
            return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)

        def fetch() -> Any:  # the stubs do not know that None stands for no change
            nonlocal latest
            before, latest = latest, self.read()
            return configuration(latest) if latest != before else None

        return grpc.dynamic_ssl_server_credentials(configuration(latest), fetch, demand)

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Key, certificate and authority."""
        return self.key.read_bytes(), self.certificate.read_bytes(), self.ca.read_bytes()
