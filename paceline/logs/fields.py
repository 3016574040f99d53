"""Values of fields: plain ones for JSON, and how they are shown to people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

MAX_CHARACTERS = 4096
"""Of a value: some come from peers."""
DECIMALS = 6
WHOLE = ("exception", "prompt", "text")
"""Fields that are never cut."""


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them."""
    return {name: value if name in WHOLE and isinstance(value, str) else plain(value) for name, value in fields.items()}


def plain(value: Any) -> Any:
    """The value in JSON's types."""
    match value:
        case None | bool() | int():
            return value
        case Enum():
            return plain(value.value)
        case float():
            return round(value, DECIMALS) if math.isfinite(value) else str(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    text = str(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def shown_fields(fields: Mapping[str, Any]) -> list[str]:
    """``name=value`` each, on one line whatever the values are."""
    return [f"{name}={shown(value)}" for name, value in plain_fields(fields).items()]


def shown(value: Any) -> str:
    """A plain value; texts are quoted where they would not stand out as one word."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if not isinstance(value, str):
        return shown_text(json.dumps(value, ensure_ascii=False))
    word = value and not any(character.isspace() or character in "=\"'" for character in value)
    return shown_text(value if word else json.dumps(value, ensure_ascii=False))


def shown_text(text: str) -> str:
    """Without line ends and whatever else does things to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
