"""Every error that crosses a boundary, in one tree. ``rpc.py`` maps them to gRPC status codes."""

from __future__ import annotations

from paceline.speculation.fields import FieldError

__all__ = [
    "Aborted",
    "DataLoss",
    "Draining",
    "FailedPrecondition",
    "Fenced",
    "FieldError",
    "NotFound",
    "OutOfBlocks",
    "PacelineError",
    "PermissionDenied",
    "ResourceExhausted",
    "TargetFailed",
    "Unauthenticated",
    "Unavailable",
    "UnknownSession",
    "UnknownTimeline",
    "UnsupportedModel",
    "UnsupportedParameter",
]


class PacelineError(Exception):
    """Base of all errors that a caller may want to handle."""


class UnsupportedModel(FieldError, PacelineError):
    """The checkpoint needs something that the engine does not compute."""


class UnsupportedParameter(FieldError, PacelineError):
    """The request asks for something that this version does not do; it is never silently ignored."""


class NotFound(PacelineError):
    """No such session, model or worker."""


class UnknownSession(NotFound):
    """There was never such a session, or it is forgotten by now."""


class UnknownTimeline(NotFound):
    """No answer of that trace is kept here for this caller."""


class FailedPrecondition(PacelineError):
    """The request is well-formed, but not here or not now."""


class Fenced(PacelineError):
    """Another worker has started under our name since; whoever is fenced must not serve on."""


class PermissionDenied(PacelineError):
    """A key, token or role does not match; ``reason`` says which, in a word that refusals are counted by."""

    def __init__(self, message: str, reason: str = "permission") -> None:
        super().__init__(message)
        self.reason = reason


class Unauthenticated(PacelineError):
    """No key or certificate, or none that is known here; ``reason`` as for ``PermissionDenied``."""

    def __init__(self, message: str, reason: str = "unknown") -> None:
        super().__init__(message)
        self.reason = reason


class TargetFailed(PacelineError):
    """The target's forward gives nothing that a token can be chosen from."""


class DataLoss(PacelineError):
    """Two sides disagree about tokens that both hold as committed."""


class Aborted(PacelineError):
    """Somebody else goes on with it."""


class Unavailable(PacelineError):
    """Draining, starting, or a worker is gone; with a ``resume_token`` the answer can be continued later."""

    def __init__(self, message: str, resume_token: str = "") -> None:
        super().__init__(message)
        self.resume_token = resume_token


class Draining(Unavailable):
    """The service is about to stop: another one takes the same request, or this address does in a moment."""

    retry_after_seconds = 1.0


class ResourceExhausted(PacelineError):
    """Full; ``retry_after_seconds`` is a fair time to come back."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OutOfBlocks(ResourceExhausted):
    """The KV cache has no room."""
