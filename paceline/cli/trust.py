"""What the command line's three TLS options mean."""

from __future__ import annotations

from pathlib import Path

from paceline.security.identity import Identity, Trust
from paceline.speculation.fields import require


def client_trust(ca: Path | None, certificate: Path | None, key: Path | None) -> Trust | None:
    """Raises ``FieldError`` for files that do not go together; None: no TLS."""
    both = (certificate is None) is (key is None)
    require(both, "tls_key", key and str(key), "a key and its certificate (tls_cert), or neither")
    require(certificate is None or ca is not None, "tls_ca", None, "an authority's certificates, with tls_cert")
    for name, file in (("tls_ca", ca), ("tls_cert", certificate), ("tls_key", key)):
        require(file is None or file.is_file(), name, file and str(file), "a file")
    return Identity.of(certificate, key, ca) or (Trust(ca) if ca else None)
