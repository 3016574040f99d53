"""What must not be shown: values of fields whose names say so, and passwords in URLs."""

from __future__ import annotations

import re

REDACTED = "(redacted)"
_SECRET_NAME = re.compile(r"(?!tls_key)(.*_)?(key|secret|token|password)")  # tls_key is where a key lies
_URL_PASSWORD = re.compile(r"(?<=://)([^/?#\s]*?):([^/?#\s]*)@")


def redacted(field: str, value: object) -> object:
    """``value``, unless ``field`` (the last part of a dotted key) names a secret; URLs lose their passwords."""
    name = field.rpartition(".")[2].lstrip("-").replace("-", "_").lower()
    if isinstance(value, str):
        return REDACTED if value and _SECRET_NAME.fullmatch(name) else _URL_PASSWORD.sub(rf"\1:{REDACTED}@", value)
    if isinstance(value, (list, tuple)):
        return type(value)(redacted(field, item) for item in value)
    return value
