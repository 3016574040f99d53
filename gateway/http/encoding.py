"""JSON out: a tenth of the time that the standard library takes, which is felt once per step and stream."""

from __future__ import annotations

import json
from typing import Any

import orjson
from fastapi import Response


def dumps(value: Any) -> bytes:
    """UTF-8; halves of characters, which clients may send and errors repeat, as escapes."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(value), status, headers, media_type="application/json")


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + dumps(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
