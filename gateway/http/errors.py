"""Every failure as OpenAI's error body: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.http.encoding import json_response
from gateway.http.resuming import IDEMPOTENCY_KEY, LAST_EVENT_ID
from paceline.errors import (
    Aborted,
    DataLoss,
    Draining,
    FailedPrecondition,
    FieldError,
    NotFound,
    PacelineError,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UnknownSession,
    UnknownTimeline,
)
from paceline.rpc import REFUSED
from paceline.security.refusals import REFUSALS

MAX_SHOWN = 80
"""Characters of a value that an error repeats."""
CLIENT_GONE = 499
"""What is counted where nobody is left to be answered."""

_UNION_BRANCH = re.compile(r"[^\w]|^(str|int|float|bool|dict|list|none)$")
"""Parts of a validation error's place that name a type tried, not a field."""

_KINDS: list[tuple[type[Exception], int, str, str | None]] = [
    (FieldError, 400, "invalid_request_error", None),
    (UnknownSession, 404, "invalid_request_error", "session_not_found"),
    (UnknownTimeline, 404, "invalid_request_error", "timeline_not_found"),
    (NotFound, 404, "invalid_request_error", "model_not_found"),
    (Unauthenticated, 401, "invalid_request_error", "invalid_api_key"),
    (PermissionDenied, 403, "invalid_request_error", "permission_denied"),
    (ResourceExhausted, 429, "rate_limit_error", "rate_limit_exceeded"),
    (FailedPrecondition, 400, "invalid_request_error", "failed_precondition"),
    (Aborted, 409, "conflict_error", "aborted"),
    (DataLoss, 410, "conflict_error", "data_loss"),
    (Unavailable, 503, "server_error", "unavailable"),
]


_PARAMS = {"model_not_found": "model", "session_not_found": LAST_EVENT_ID, "timeline_not_found": "trace_id"}
_HEADERS = {"resume_token": LAST_EVENT_ID, "idempotency_key": IDEMPOTENCY_KEY}
"""Fields of the gateway's that are headers here."""


class ClientGone(Exception):
    """The client has closed its connection before the answer was there."""


@dataclass(frozen=True)
class Failure:
    """What a client is told of an error."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def failure_of(error: Exception) -> Failure:
    """Errors of ours by their kind; anything else is a bug, told without details."""
    if isinstance(error, FieldError) and error.field in _HEADERS:
        error = FieldError(_HEADERS[error.field], error.value, error.expected)
    for kind, status, type_, code in _KINDS:
        if isinstance(error, kind):
            param = error.field if isinstance(error, FieldError) else _PARAMS.get(code or "")
            headers = {}
            if isinstance(error, (ResourceExhausted, Draining)):
                headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
            if isinstance(error, Draining):  # over a new connection it reaches another gateway
                headers["Connection"] = "close"
            return Failure(status, error_body(str(error), type_, param, code), headers)
    message = str(error) if isinstance(error, PacelineError) else "internal error"
    return Failure(500, error_body(message, "server_error", None, "internal_error"), {})


def error_body(message: str, type_: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def invalid(errors: Sequence[Any]) -> FieldError:
    """The first thing that pydantic did not take, as one of our errors."""
    first = errors[0]
    param = _place(first["loc"][1:]) or "body"
    if first["type"] == "json_invalid":
        return FieldError("body", f"byte {first['loc'][-1]}", f"JSON: {first['ctx']['error']}")
    if param == "body":
        return FieldError("body", None, "a JSON object, with Content-Type: application/json")
    branches = [error for error in errors if error["loc"][1] == first["loc"][1]]
    expected = " or ".join(dict.fromkeys(map(_expected, branches)))
    return FieldError(param, None if first["type"] == "missing" else _shown(first["input"]), expected)


def _expected(error: Any) -> str:
    match error["type"]:
        case "missing":
            return "a value"
        case "extra_forbidden":
            return "nothing (no such parameter is supported)"
        case "none_required":
            return "null (anything else is not supported)"
        case "literal_error":
            return f"{error['ctx']['expected']} (anything else is not supported)"
        case "too_long" if error["ctx"]["max_length"] == 0:
            return "an empty list (anything else is not supported)"
    message: str = error["msg"]
    return message.removeprefix("Input should be ").removeprefix("Value error, ")


def install(app: FastAPI) -> None:
    """Has every exception of ``app`` answered in OpenAI's form; the server logs those that are bugs."""
    for kind in (FieldError, PacelineError, Exception):
        app.add_exception_handler(kind, _any)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientGone, _gone)


async def _any(request: Request, error: Exception) -> Response:
    if isinstance(error, REFUSED):
        client = request.client
        REFUSALS.note(error.reason, f"{client.host}:{client.port}" if client else "a client", str(error))
    return respond(failure_of(error))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for nothing else"
    return respond(failure_of(invalid(error.errors())))


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for nothing else"
    body = error_body(error.detail, "invalid_request_error")
    return respond(Failure(error.status_code, body, dict(error.headers or {})))


async def _gone(_: Request, error: Exception) -> Response:  # noqa: ARG001 - there is nothing to say of it
    return Response(status_code=CLIENT_GONE)


def respond(failure: Failure) -> Response:
    return json_response(failure.body, failure.status, failure.headers)


def _place(parts: Sequence[str | int]) -> str:
    place = "".join(map(str, parts[:1]))
    for part in parts[1:]:
        if isinstance(part, int):
            place += f"[{part}]"
        elif not _UNION_BRANCH.search(part):
            place += f".{part}"
    return place


def _shown(value: Any) -> Any:
    if isinstance(value, (int, float)) or value is None:
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
