"""Whether certificate, key and authority can be used: found out at start, and not by the first peer."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from paceline.security.identity import Identity, Party, Role
from paceline.speculation.fields import Checks, FieldError

CERTIFICATE, KEY, CA = "tls_cert", "tls_key", "tls_ca"


def check_identity(checks: Checks, identity: Identity, role: Role, name: str | None = None) -> None:
    """Notes what is wrong with the files of a service of this role; ``name``: the certificate has to have it, too."""
    chain = read_certificates(checks, CERTIFICATE, identity.certificate)
    authorities = read_certificates(checks, CA, identity.ca)
    if chain:
        _check_certificate(checks, chain, identity.certificate)
        _check_key(checks, chain[0], identity.key)
        _check_party(checks, chain[0], identity.certificate, role, name)
    if chain and authorities:
        signed = any(_signed(chain[0], by) for by in [*chain[1:], *authorities])
        checks.require(signed, CERTIFICATE, str(identity.certificate), f"a certificate that {identity.ca} has signed")


def read_certificates(checks: Checks, field: str, file: Path) -> list[x509.Certificate]:
    """Empty, and noted, if there are none."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        checks.errors.append(FieldError(field, str(file), f"a file that can be read ({error.strerror})"))
    except ValueError:
        checks.errors.append(FieldError(field, str(file), "certificates in PEM"))
    return []


def party_of(certificate: x509.Certificate) -> Party | None:
    """Whom a certificate is made out to."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return Party.among(names.get_values_for_type(x509.UniformResourceIdentifier))


def _check_certificate(checks: Checks, chain: list[x509.Certificate], file: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for certificate in chain:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        checks.require(start <= now <= end, CERTIFICATE, str(file), f"to be valid now, not from {start} to {end}")


def _check_key(checks: Checks, certificate: x509.Certificate, file: Path) -> None:
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        checks.errors.append(FieldError(KEY, str(file), f"a file that can be read ({error.strerror})"))
    except (ValueError, TypeError):  # its text could quote the file
        checks.errors.append(FieldError(KEY, str(file), "a private key in PEM, without a password"))
    else:
        belongs = _bytes(key.public_key()) == _bytes(certificate.public_key())
        checks.require(belongs, KEY, str(file), f"the key of the certificate in {CERTIFICATE}")


def _check_party(checks: Checks, certificate: x509.Certificate, file: Path, role: Role, name: str | None) -> None:
    party = party_of(certificate)
    fits = party is not None and party.role is role and name in (None, party.name)
    wanted = Party(role, name or "NAME").uri
    found = f", not {party.uri}" if party else ""
    checks.require(fits, CERTIFICATE, str(file), f"a certificate with the URI {wanted}{found}")


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
