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


def event(value: Any, event_id: str | None = None) -> bytes:
    """One server-sent event. An empty id has the client forget the one before, none has it keep that."""
    name = b"" if event_id is None else b"\nid: " + event_id.encode() if event_id else b"\nid:"
    return b"data: " + dumps(value) + name + b"\n\n"


DONE = b"data: [DONE]\n\n"
