"""The three settings that make a service's channels private: all of them, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from paceline.security.identity import Identity, Role
from paceline.speculation.fields import Checks

CERTIFICATE_HELP = "certificate of this service in PEM; with tls_key and tls_ca, TLS and roles on every channel"
KEY_HELP = "file of its private key"
CA_HELP = "certificates of the authority whose certificates are believed"


class TlsSettings(Protocol):
    """What the settings of all services have in common here."""

    @property
    def tls_cert(self) -> Path | None: ...
    @property
    def tls_key(self) -> Path | None: ...
    @property
    def tls_ca(self) -> Path | None: ...


def identity_of(config: TlsSettings) -> Identity | None:
    """None: the service does without TLS."""
    return Identity.of(config.tls_cert, config.tls_key, config.tls_ca)


def check_tls(checks: Checks, config: TlsSettings, role: Role, name: str | None = None) -> None:
    """Notes what is wrong with the settings, or with the files that they name; ``name`` as the certificate has it."""
    files = {"tls_cert": config.tls_cert, "tls_key": config.tls_key, "tls_ca": config.tls_ca}
    given = [field for field, file in files.items() if file is not None]
    if not given:
        return
    for field, file in files.items():
        checks.require(file is not None, field, None, f"a file, since {' and '.join(given)} is given")
    identity = identity_of(config)
    if identity:
        from paceline.security.check import check_identity

        check_identity(checks, identity, role, name)
