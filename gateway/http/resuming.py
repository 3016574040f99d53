"""Requests that are made again: after the last event that their client has, or under an idempotency key."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Header

from gateway.callers import Caller
from gateway.service import Gateway
from paceline import wire
from paceline.messages import Generate, JournaledSession
from paceline.speculation.fields import require

LAST_EVENT_ID, IDEMPOTENCY_KEY = "Last-Event-ID", "Idempotency-Key"
MAX_KEY = 200
MAX_ID = 1 << 13
SEED_BITS = 53
"""Of seeds drawn here: what every JSON reader takes for a whole number."""
_ENDED = "."
"""After the token of a choice whose ending was told."""


@dataclass(frozen=True)
class Mark:
    """How far a client has heard one choice; without a token it has heard nothing."""

    token: str = ""
    ended: bool = False


UNHEARD = Mark()


@dataclass(frozen=True)
class Headers:
    """What a request says of one before it; empty: nothing."""

    idempotency_key: str
    last_event_id: str


@dataclass(frozen=True)
class Before:
    """What there was before a request."""

    seed: int
    """Of a request whose body has none."""
    idempotency_key: str
    heard: tuple[Mark, ...]
    """By choice; nothing at all if no event came before."""
    sessions: tuple[JournaledSession | None, ...]

    def named(self, generations: Iterable[Generate]) -> tuple[Generate, ...]:
        """Each with an idempotency key of its own, if the request has one."""
        key = self.idempotency_key
        each = enumerate(generations)
        return tuple(replace(one, idempotency_key=f"{key}/{index}" if key else "") for index, one in each)

    def marks(self, generations: Sequence[Generate], *, stream: bool) -> tuple[Mark, ...]:
        """How far each of them was heard; raises ``FieldError`` unless they are what was asked for before."""
        if not self.heard:
            return (UNHEARD,) * len(generations)
        require(stream, LAST_EVENT_ID, "given", "stream: true with it")
        count, expected = len(self.heard), len(generations)
        require(count == expected, LAST_EVENT_ID, f"{count} choices", f"{expected}, as many as were asked for")
        for index, (session, asked) in enumerate(zip(self.sessions, generations, strict=True)):
            same = session is None or session.request_digest == wire.request_digest(asked)
            require(same, LAST_EVENT_ID, f"choice {index}", "the body of the request that it belongs to")
        return self.heard


def _headers(
    idempotency_key: Annotated[
        str | None,
        Header(
            alias=IDEMPOTENCY_KEY,
            description="The request made again with the same key is answered by the same sessions, from their "
            "beginning; an answer to the first one that still runs is ended.",
            json_schema_extra={"minLength": 1, "maxLength": MAX_KEY},
        ),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(
            alias=LAST_EVENT_ID,
            description="The id of the last event that came of the same request: the stream goes on after it, "
            "at any gateway.",
            json_schema_extra={"maxLength": MAX_ID},
        ),
    ] = None,
) -> Headers:
    key, event_id = idempotency_key or "", last_event_id or ""
    expected = f"1 to {MAX_KEY} characters"
    require(idempotency_key is None or 0 < len(key) <= MAX_KEY, IDEMPOTENCY_KEY, f"{len(key)} characters", expected)
    require(len(event_id) <= MAX_ID, LAST_EVENT_ID, f"{len(event_id)} characters", f"at most {MAX_ID}")
    return Headers(key, event_id)


Retry = Annotated[Headers, Depends(_headers)]
"""A route's parameter."""


async def look_back(gateway: Gateway, headers: Headers, caller: Caller) -> Before:
    """Finds the sessions that the headers speak of; raises as ``Gateway.resume`` does, before anything is touched."""
    heard = parse_event_id(headers.last_event_id)
    sessions = [await gateway.find(mark.token, caller) if mark.token else None for mark in heard]
    key = headers.idempotency_key
    begun = [session.seed for session in sessions if session is not None]
    drawn = seed_of(caller.name, key) if key else secrets.randbits(SEED_BITS)
    return Before(begun[0] if begun else drawn, key, heard, tuple(sessions))


def event_id(marks: Sequence[Mark]) -> str:
    """Where the client of a stream stands once it has an event."""
    return ",".join(mark.token + _ENDED * mark.ended for mark in marks)


def parse_event_id(text: str) -> tuple[Mark, ...]:
    """The marks; none for an empty id, which in server-sent events is the same as none."""
    marks = tuple(Mark(part.removesuffix(_ENDED), part.endswith(_ENDED)) for part in text.split(",")) if text else ()
    heard = not marks or any(mark.token for mark in marks)
    require(heard and all(mark.token or not mark.ended for mark in marks), LAST_EVENT_ID, text[:80], "an event's id")
    return marks


def seed_of(caller: str, key: str) -> int:
    """The same for everybody who is asked again: then the requests are the same."""
    digest = hashlib.sha256(f"seed {len(caller)}:{caller}{key}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 64 - SEED_BITS
