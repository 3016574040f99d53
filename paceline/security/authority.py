"""A certificate authority for development: its key lies beside the certificates that it signs."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from paceline.security.identity import CA_FILE, CA_KEY_FILE, Identity, Party, server_name
from paceline.speculation.fields import require

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
SKEW = datetime.timedelta(minutes=5)
"""Other machines' clocks may be so far behind ours."""


class Authority:
    """Signs certificates for parties."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate, self._key = certificate, key

    @classmethod
    def make(cls, days: float) -> Authority:
        """A new one, valid from now on."""
        key, name = _new_key(), _name("Paceline development CA")
        builder = _builder(name, name, key.public_key(), days)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs=True), critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return cls(builder.add_extension(identifier, critical=False).sign(key, SHA256()), key)

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """What ``save`` has left."""
        for name in (CA_FILE, CA_KEY_FILE):
            require((directory / name).is_file(), "directory", str(directory), f"a {name}, as 'certs init' writes it")
        key = load_pem_private_key((directory / CA_KEY_FILE).read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "that is what we write"
        return cls(x509.load_pem_x509_certificate((directory / CA_FILE).read_bytes()), key)

    def save(self, directory: Path) -> None:
        """Raises ``FieldError`` rather than overwrite another one."""
        _write(directory / CA_KEY_FILE, _pem(self._key), 0o600)
        _write(directory / CA_FILE, self.certificate.public_bytes(Encoding.PEM), 0o644)

    def issue(self, directory: Path, party: Party, hosts: Sequence[str], days: float) -> Identity:
        """Writes a certificate and its key; raises ``FieldError`` rather than overwrite one."""
        identity, key = Identity.within(directory, party), _new_key()
        certificate = self._sign(party, key.public_key(), hosts, days)
        _write(identity.key, _pem(key), 0o600)
        _write(identity.certificate, certificate.public_bytes(Encoding.PEM), 0o644)
        return identity

    def _sign(
        self, party: Party, key: ec.EllipticCurvePublicKey, hosts: Sequence[str], days: float
    ) -> x509.Certificate:
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(party.uri)]
        for host in hosts:
            names += [_general_name(host), x509.DNSName(server_name(host, party.role))]
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(_name(f"{party.role.value} {party.name}"), self.certificate.subject, key, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        builder = builder.add_extension(usages, critical=False).add_extension(issuer, critical=False)
        return builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(self._key, SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(min(now, end) - SKEW).not_valid_after(end)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(file: Path, data: bytes, mode: int) -> None:
    """A new file, never one that is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    require(not file.exists(), "file", str(file), "no such file yet; nothing is overwritten")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(data)
