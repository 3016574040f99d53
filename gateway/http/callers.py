"""Who is calling: the one place where an Authorization header is turned into somebody."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from gateway.callers import Caller, Callers


def admission(callers: Callers) -> Callable[[Request], None]:
    """Refuses a request whose key nobody knows; notes the caller of any other."""

    def admit(request: Request) -> None:
        party = getattr(request.state, "party", None)
        request.state.caller = callers.identify(request.headers.get("authorization"), party)

    return admit


def caller_of(request: Request) -> Caller:
    """Of an admitted request."""
    caller: Caller = request.state.caller
    return caller
