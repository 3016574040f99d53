"""What a gateway must know to go on with another one's session."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.messages.sessions import OpenSession


@dataclass(frozen=True)
class JournaledSession:
    """A session as it was opened first, with the prompt alone, and what its client has asked for beside it."""

    opening: OpenSession
    caller: str
    """Name of the key that it belongs to."""
    seed: int
    stop: tuple[str, ...] = ()
    prediction: tuple[int, ...] = ()
    """The client's guess at the text, in tokens."""
    request_digest: bytes = b""
    """SHA-256 of the request."""
