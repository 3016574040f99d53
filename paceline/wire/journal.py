"""What a journal keeps, as bytes: a session as it was opened, and events of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from google.protobuf.message import DecodeError

from paceline import messages as m
from paceline.errors import FieldError
from paceline.v1 import journal_pb2 as journal
from paceline.v1 import verifier_pb2 as verifier
from paceline.wire.columns import pack_tokens, unpack_tokens
from paceline.wire.decode import from_open, from_session_event, to_open, to_session_event
from paceline.wire.generate import to_generate


def request_digest(value: m.Generate) -> bytes:
    """Equal for equal requests, in every process, whatever key they are made under."""
    asked = to_generate(replace(value, idempotency_key=""))
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).digest()


def to_journaled(value: m.JournaledSession) -> bytes:
    return journal.JournaledSession(
        opening=to_open(value.opening),
        caller=value.caller,
        seed=value.seed,
        stop=value.stop,
        prediction_u32=pack_tokens(value.prediction),
        request_digest=value.request_digest,
        traceparent=value.opening.traceparent,
    ).SerializeToString()


def from_journaled(data: bytes) -> m.JournaledSession:
    """Raises ``FieldError`` for what no journal writes."""
    try:
        wire = journal.JournaledSession.FromString(data)
    except DecodeError as error:
        raise FieldError("session", f"{len(data)} bytes", "a JournaledSession") from error
    return m.JournaledSession(
        opening=replace(from_open(wire.opening), traceparent=wire.traceparent),
        caller=wire.caller,
        seed=wire.seed,
        stop=tuple(wire.stop),
        prediction=unpack_tokens(wire.prediction_u32, "prediction"),
        request_digest=wire.request_digest,
    )


def to_journaled_event(value: m.SessionEvent) -> bytes:
    return to_session_event(value).SerializeToString()


def from_journaled_event(data: bytes) -> m.SessionEvent:
    """Raises ``FieldError`` for what no journal writes."""
    try:
        return from_session_event(verifier.SessionEvent.FromString(data))
    except DecodeError as error:
        raise FieldError("event", f"{len(data)} bytes", "a SessionEvent") from error
